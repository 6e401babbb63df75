"""How engine processes end, what is said of that, and when the next one starts."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Engine, Memory
from edge_agent.errors import Pressure
from edge_agent.messages import Done, Failed
from edge_agent.ops.health import State
from edge_agent.worker import life
from edge_agent.worker.child import KILL_GRACE_S
from edge_agent.worker.standing import Standing
from edge_agent.worker.supervisor import Supervisor
from tests.worker.asking import (
    LONG,
    SLOW,
    ask,
    begin,
    code,
    engine_pid,
    events_of,
    is_alive,
    state,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]

CROWDED = "memory is critical"


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_a_bug_in_a_step_ends_the_process_and_names_its_exit_code(
    supervise: Supervise,
) -> None:
    async with supervise() as supervisor:
        ending = (await events_of(supervisor, ask("bug in step of mine")))[-1]

    assert isinstance(ending, Failed)
    assert "exit code 1" in ending.message


async def test_a_silent_engine_is_killed_and_replaced(supervise: Supervise) -> None:
    limits = Engine(restart_wait_s=0.05, stall_limit_s=2.0)
    async with supervise(limits=limits) as supervisor:
        ending = (await events_of(supervisor, ask("hang at word 2")))[-1]
        again = await events_of(supervisor, ask("next"))

    assert isinstance(ending, Failed)
    assert "stalled" in ending.message
    assert isinstance(again[-1], Done)


async def test_an_idle_engine_beats_and_is_left_alone(supervise: Supervise) -> None:
    limits = Engine(restart_wait_s=0.05, stall_limit_s=1.5)
    async with supervise(limits=limits) as supervisor:
        await events_of(supervisor, ask("first"))
        pid = engine_pid(supervisor)
        await asyncio.sleep(2 * limits.stall_limit_s)  # idleness itself is what is tested
        assert (supervisor.restarts, engine_pid(supervisor)) == (0, pid)


async def test_a_model_that_does_not_load_is_a_state_and_not_a_crash_loop(
    supervise: Supervise, tmp_path: Path
) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("weights.bin: wrong hash")
    async with supervise(f"--trouble={trouble}") as supervisor:
        await until(lambda: supervisor._life._standing.state is State.FAILED)
        events = await events_of(supervisor, ask("anyone?"))
        assert supervisor.restarts == 0

    assert [getattr(event, "code", None) for event in events] == ["loading"]
    assert "wrong hash" in getattr(events[0], "message", "")


@pytest.mark.parametrize("without_engine", [State.RELAY, State.FAILED])
async def test_a_processor_that_cannot_run_the_engine_is_asked_once(
    supervise: Supervise, tmp_path: Path, without_engine: State
) -> None:
    births = tmp_path / "births"
    arguments = (f"--births={births}", "--wrong-processor")
    async with supervise(*arguments, without_engine=without_engine) as supervisor:
        standing = supervisor._life._standing
        await until(lambda: standing.state is without_engine)
        [refusal] = await events_of(supervisor, ask("anyone?"))
        await supervisor.unload("asked for")
        supervisor.hold("memory is critical", retry_after_s=1.0)
        supervisor.release()
        assert standing.state is without_engine
        assert (supervisor.restarts, supervisor.child_pid) == (0, None)

    assert isinstance(refusal, Failed)
    assert "this processor lacks instructions" in refusal.message
    assert births.read_text() == "1"


async def test_a_model_that_was_mended_is_found_in_time(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "FAILED_WAIT_S", 0.05)
    trouble = tmp_path / "trouble"
    trouble.write_text("weights.bin: wrong hash")
    async with supervise(f"--trouble={trouble}") as supervisor:
        await until(lambda: supervisor._life._standing.state is State.FAILED)
        trouble.unlink()
        await until(lambda: supervisor._life._standing.state is State.READY)


async def test_no_process_is_left_behind(supervise: Supervise) -> None:
    async with supervise(SLOW) as supervisor:
        running = asyncio.create_task(events_of(supervisor, ask(LONG)))
        await until(lambda: supervisor.running == 1)
        pid = engine_pid(supervisor)
    ending = (await running)[-1]

    assert not is_alive(pid)
    assert getattr(ending, "code", None) == "draining"


async def test_the_kernel_would_rather_kill_the_engine(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await until(lambda: supervisor._life._standing.state is State.READY)
        theirs = oom_score(engine_pid(supervisor))

    assert theirs == min(1000, oom_score(os.getpid()) + 500)


async def test_an_engine_that_should_be_gone_by_now_is_not_called_alive(
    supervise: Supervise,
) -> None:
    async with supervise() as supervisor:
        assert supervisor.is_alive  # loading is life
        await until(lambda: supervisor._life._standing.state is State.READY)
        assert supervisor.is_alive
        assert supervisor._life.child is not None
        supervisor._life.child._silent_until_s -= 2 * 60.0 + KILL_GRACE_S
        assert not supervisor.is_alive


async def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    supervisor = Supervisor(
        Engine(restart_wait_s=0.01),
        Memory(),
        Standing(State.LOADING, "not started"),
        count_oom_kills=lambda: 0,
    )
    task = asyncio.create_task(supervisor.run([str(tmp_path / "no-such-program")]))
    await until(lambda: supervisor.restarts == 2)
    assert "not started" in supervisor._life._standing.detail
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_oom_kill_is_told_before_the_next_start(supervise: Supervise) -> None:
    kills = 7
    told: list[str] = []

    async with supervise(SLOW, count_oom_kills=lambda: kills) as supervisor:

        def hold(how: str) -> None:
            told.append(how)
            supervisor.hold(CROWDED, retry_after_s=1.0)

        supervisor.on_oom = hold
        running = begin(supervisor, LONG)
        await until(lambda: supervisor.running == 1)
        kills += 1
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        ending = (await running)[-1]
        assert state(supervisor) is State.HELD
        supervisor.release()
        assert isinstance((await events_of(supervisor, ask("again")))[-1], Done)

    assert told == ["killed by SIGKILL, out of memory"]
    assert isinstance(ending, Failed)
    assert (ending.code, ending.retry_after_s) == (Pressure.code, 1.0)
    assert "out of memory" in ending.message


async def test_who_runs_when_memory_runs_out_is_not_to_blame(supervise: Supervise) -> None:
    kills = 0
    limits = Engine(restart_wait_s=0.05, max_crashes=1)
    async with supervise(SLOW, limits=limits, count_oom_kills=lambda: kills) as supervisor:
        for _ in range(2):
            running = begin(supervisor, "a b c d e f g h")
            await until(lambda: supervisor.running == 1)
            kills += 1
            os.kill(engine_pid(supervisor), signal.SIGKILL)
            assert code(await running) == Pressure.code
        assert isinstance((await events_of(supervisor, ask("a b c d e f g h")))[-1], Done)


async def test_a_kill_that_a_hold_overtakes_is_named_all_the_same(
    supervise: Supervise, caplog: pytest.LogCaptureFixture
) -> None:
    kills = 0
    told: list[str] = []
    async with supervise(count_oom_kills=lambda: kills) as supervisor:
        supervisor.on_oom = told.append
        await supervisor.load()
        kills += 1
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        supervisor.hold(CROWDED, retry_after_s=1.0)  # before the loop has heard of the death
        await until(lambda: supervisor.child_pid is None)
        await until(lambda: bool(told))
        assert state(supervisor) is State.HELD

    assert "killed for want of memory" in caplog.text


@pytest.mark.parametrize(("count", "is_oom"), [(None, True), (7, False)])
async def test_a_kill_is_the_kernels_unless_it_says_otherwise(
    supervise: Supervise, count: int | None, is_oom: bool
) -> None:
    told: list[str] = []
    async with supervise(count_oom_kills=lambda: count) as supervisor:
        supervisor.on_oom = told.append
        await supervisor.load()
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1)

    assert bool(told) is is_oom


async def test_other_ends_are_no_oom_kills(supervise: Supervise) -> None:
    told: list[str] = []
    limits = Engine(restart_wait_s=0.05, stall_limit_s=2.0)
    async with supervise(limits=limits, count_oom_kills=lambda: None) as supervisor:
        supervisor.on_oom = told.append
        await events_of(supervisor, ask("bug in step of mine"))
        await events_of(supervisor, ask("hang at word 2"))
        await supervisor.load()
        await supervisor.unload("asked for")

    assert told == []


async def test_nothing_rings_after_the_end(supervise: Supervise) -> None:
    async with supervise(keep_alive=0.05) as supervisor:
        await supervisor.load()

    assert supervisor._life.stay._alarm is None
