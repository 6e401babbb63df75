"""Who waits for the engine, for how long, and what those are told who wait in vain."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Engine
from edge_agent.errors import EdgeError, Loading
from edge_agent.messages import Done, Failed
from edge_agent.ops.health import State
from tests.worker.asking import (
    ask,
    begin,
    code,
    engine_pid,
    events_of,
    state,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from edge_agent.worker.supervisor import Supervisor

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]

HOUR_S = 3600.0


async def test_a_request_waits_for_a_loading_engine_only_so_long(supervise: Supervise) -> None:
    limits = Engine(load_wait_s=0.05, restart_wait_s=60.0)
    async with supervise(limits=limits) as supervisor:
        await until(lambda: supervisor._life._standing.state is State.READY)
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        await until(lambda: supervisor._life._standing.state is State.RESTARTING)
        events = await events_of(supervisor, ask("anyone?"))

    assert [getattr(event, "code", None) for event in events] == ["loading"]


async def test_requests_wait_for_a_load_within_their_deadline(
    supervise: Supervise, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    limits = Engine(load_wait_s=0.05)
    async with supervise(f"--slow={slow}", limits=limits, keep_alive=HOUR_S) as supervisor:
        patient = begin(supervisor, "I can wait", deadline_s=HOUR_S)
        hasty = await events_of(supervisor, ask("I cannot"))
        assert state(supervisor) is State.LOADING
        assert supervisor.waiting == 1
        slow.unlink()
        assert isinstance((await patient)[-1], Done)

    assert code(hasty) == Loading.code


async def test_a_refusal_while_loading_tells_how_long_loads_take(
    supervise: Supervise, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    limits = Engine(load_wait_s=0.05)
    async with supervise(f"--slow={slow}", limits=limits) as supervisor:
        assert supervisor.load_left_s is None
        await until(lambda: state(supervisor) is State.READY)
        supervisor._life.clock._usual_s = 500.0  # as if a measured load had taken so long
        await supervisor.unload("asked for")
        slow.touch()
        [refusal] = await events_of(supervisor, ask("now?"))

    assert isinstance(refusal, Failed)
    assert refusal.retry_after_s is not None
    assert 400 < refusal.retry_after_s <= 500


async def test_a_load_is_measured(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await supervisor.load()
        assert supervisor.load_left_s is not None
        assert supervisor.load_left_s > 0


async def test_a_waiter_outlives_an_unload(supervise: Supervise, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    async with supervise(f"--slow={slow}", keep_alive=0.0) as supervisor:
        waiting = begin(supervisor, "still here", deadline_s=HOUR_S)
        await until(lambda: supervisor.child_pid is not None)
        await supervisor.unload("asked for")
        slow.unlink()
        assert isinstance((await waiting)[-1], Done)


async def test_a_load_that_cannot_succeed_says_why(supervise: Supervise, tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("weights.bin: wrong hash")
    async with supervise(f"--trouble={trouble}", keep_alive=HOUR_S) as supervisor:
        with pytest.raises(EdgeError, match="wrong hash"):
            await supervisor.load()
        await supervisor.unload("asked for")
        assert state(supervisor) is State.UNLOADED
        trouble.unlink()
        await supervisor.load()
