"""One engine process: how its end is told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edge_agent.worker.child import Child

if TYPE_CHECKING:
    from edge_agent.messages import Request

PATIENCE_S = 20.0


def _ignore(_request: Request) -> None:
    """Take no note of a request that is over."""


async def started(code: str) -> Child:
    return await Child.start([sys.executable, "-c", f"import os, signal; {code}"], on_over=_ignore)


async def test_a_processor_that_is_too_old_is_said_in_words() -> None:
    child = await started("os.kill(os.getpid(), signal.SIGILL)")
    how = await child.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)

    assert how == "killed by SIGILL"
    assert child.load_failure is not None
    assert "processor" in child.load_failure
    assert not child.was_killed


async def test_only_what_others_killed_was_killed() -> None:
    shot = await started("os.kill(os.getpid(), signal.SIGKILL)")
    await shot.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    dismissed = await started("signal.pause()")
    dismissed.dismiss()
    await dismissed.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)

    assert (shot.was_killed, shot.is_dismissed) == (True, False)
    assert (dismissed.was_killed, dismissed.is_dismissed) == (False, True)
