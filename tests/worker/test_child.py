"""One engine process: how its end is told."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from edge_agent.worker import child as child_module
from edge_agent.worker.child import Child
from tests.worker.asking import is_alive

if TYPE_CHECKING:
    import pytest

    from edge_agent.messages import Request

PATIENCE_S = 20.0


def _ignore(_request: Request) -> None:
    """Take no note of a request that is over."""


async def started(code: str) -> Child:
    return await Child.start([sys.executable, "-c", f"import os, signal; {code}"], on_over=_ignore)


async def test_how_a_process_ended_is_told_as_it_was() -> None:
    child = await started("os.kill(os.getpid(), signal.SIGILL)")
    gone = await child.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)

    assert (gone.how, gone.code) == ("killed by SIGILL", -signal.SIGILL)
    assert not gone.was_ready
    assert not gone.was_killed


async def test_only_what_others_killed_was_killed() -> None:
    shot = await started("os.kill(os.getpid(), signal.SIGKILL)")
    gone = await shot.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    assert (gone.was_killed, gone.is_dismissed) == (True, False)

    dismissed = await started("signal.pause()")
    dismissed.dismiss()
    gone = await dismissed.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    assert (gone.was_killed, gone.is_dismissed) == (False, True)


async def test_who_is_dismissed_after_its_death_was_killed_by_another() -> None:
    child = await started("signal.pause()")
    os.kill(child.pid, signal.SIGKILL)
    child.dismiss()  # before the loop has heard of it
    gone = await child.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    assert (gone.was_killed, gone.is_dismissed) == (True, True)


async def test_a_child_that_ignores_its_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "EXIT_LIMIT_S", 0.1)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = await Child.start([sys.executable, "-c", deaf], on_over=_ignore)
    await child.stop()
    assert not is_alive(child.pid)


async def test_a_child_that_talks_nonsense_is_killed() -> None:
    mad = "import os, sys, time; os.write(int(sys.argv[1].split('=')[1]), b'\\xff' * 9)"
    child = await Child.start([sys.executable, "-c", f"{mad}; time.sleep(600)"], on_over=_ignore)
    gone = await child.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    assert gone.how.startswith("link broken: frame of")
    assert not is_alive(child.pid)
