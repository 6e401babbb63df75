"""The supervisor as loader and unloader: on demand, when idle, when told, when memory is short."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.config import Engine
from edge_agent.errors import EdgeError, Loading, Pressure, Recalled
from edge_agent.messages import Done, Event, Failed, Priority
from edge_agent.ops.health import State
from edge_agent.worker.link import AS_CONFIGURED_BYTES
from tests.worker.asking import LONG, SLOW, ask, engine_pid, events_of, is_alive, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from edge_agent.worker.supervisor import Supervisor

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]

HOUR_S = 3600.0
CROWDED = "memory is critical"


def state(supervisor: Supervisor) -> State:
    return supervisor._life._standing.state


def begin(supervisor: Supervisor, prompt: str, **fields: Any) -> asyncio.Task[list[Event]]:
    return asyncio.create_task(events_of(supervisor, ask(prompt, **fields)))


def code(events: list[Event]) -> str | None:
    return getattr(events[-1], "code", None)


async def test_what_stays_for_a_while_is_loaded_by_the_first_request(supervise: Supervise) -> None:
    async with supervise(keep_alive=HOUR_S) as supervisor:
        await until(lambda: state(supervisor) is State.UNLOADED)
        assert supervisor.child_pid is None
        events = await events_of(supervisor, ask("wake up"))
        assert state(supervisor) is State.READY

    assert isinstance(events[-1], Done)


async def test_an_idle_model_is_unloaded_and_comes_back(supervise: Supervise) -> None:
    async with supervise(keep_alive=0.05) as supervisor:
        for _ in range(2):
            assert isinstance((await events_of(supervisor, ask("one two")))[-1], Done)
            await until(lambda: state(supervisor) is State.UNLOADED)
            assert supervisor.child_pid is None
            assert "idle for 0.05 s" in supervisor._life._standing.detail
        assert supervisor.restarts == 0


async def test_a_request_may_end_the_models_stay_or_make_it_last(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await events_of(supervisor, ask("and go", keep_alive_s=0.0))
        await until(lambda: state(supervisor) is State.UNLOADED)
    async with supervise(keep_alive=0.0) as supervisor:
        await events_of(supervisor, ask("and stay", keep_alive_s=-1.0))
        await events_of(supervisor, ask("here", keep_alive_s=HOUR_S))
        assert state(supervisor) is State.READY
        await events_of(supervisor, ask("as usual"))
        await until(lambda: state(supervisor) is State.UNLOADED)


async def test_an_unloaded_process_is_gone_when_unload_returns(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await supervisor.load()
        pid = engine_pid(supervisor)
        await supervisor.unload("asked for")
        assert not is_alive(pid)
        assert (state(supervisor), supervisor.child_pid) == (State.UNLOADED, None)
        assert "asked for" in supervisor._life._standing.detail
        await supervisor.unload("again")
        await supervisor.load()
        assert state(supervisor) is State.READY
        assert supervisor.restarts == 0


async def test_answers_that_were_begun_are_given_before_an_unload(supervise: Supervise) -> None:
    async with supervise(SLOW) as supervisor:
        begun = begin(supervisor, "a b c d e f g h i j")
        await until(lambda: supervisor.running == 1)
        first = engine_pid(supervisor)
        unloading = asyncio.create_task(supervisor.unload("asked for"))
        await until(lambda: state(supervisor) is State.UNLOADING)
        late = begin(supervisor, "me too")
        assert isinstance((await begun)[-1], Done)
        await unloading
        assert isinstance((await late)[-1], Done)  # by the next process
        assert engine_pid(supervisor) != first


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


async def test_an_unload_ends_a_load_that_nobody_waits_for(
    supervise: Supervise, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    async with supervise(f"--slow={slow}") as supervisor:
        await until(lambda: supervisor.child_pid is not None)
        await supervisor.unload("asked for")
        assert state(supervisor) is State.UNLOADED


async def test_a_waiter_outlives_an_unload(supervise: Supervise, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    async with supervise(f"--slow={slow}", keep_alive=0.0) as supervisor:
        waiting = begin(supervisor, "still here", deadline_s=HOUR_S)
        await until(lambda: supervisor.child_pid is not None)
        await supervisor.unload("asked for")
        slow.unlink()
        assert isinstance((await waiting)[-1], Done)


async def test_a_held_engine_ends_at_once_and_stays_away_until_it_is_released(
    supervise: Supervise,
) -> None:
    async with supervise(SLOW, "--slots=1") as supervisor:
        inside = [begin(supervisor, LONG) for _ in range(2)]
        await until(lambda: (supervisor.running, supervisor.waiting) == (1, 1))
        pid = engine_pid(supervisor)
        supervisor.hold(CROWDED, retry_after_s=30.0)
        assert state(supervisor) is State.HELD
        outside = await events_of(supervisor, ask("now?"))
        with pytest.raises(Pressure):
            await supervisor.load()
        await until(lambda: supervisor.child_pid is None)
        assert not is_alive(pid)
        for events in [*(await asyncio.gather(*inside)), outside]:
            failed = events[-1]
            assert isinstance(failed, Failed)
            assert (failed.code, failed.retryable) == (Pressure.code, True)
            assert failed.retry_after_s == 30.0
            assert CROWDED in failed.message
        assert supervisor.is_alive
        supervisor.release()
        assert isinstance((await events_of(supervisor, ask("back again")))[-1], Done)
        assert supervisor.restarts == 0


async def test_a_release_loads_only_what_was_loaded_before(supervise: Supervise) -> None:
    async with supervise(keep_alive=HOUR_S) as supervisor:
        await until(lambda: state(supervisor) is State.UNLOADED)
        supervisor.hold(CROWDED, retry_after_s=1.0)
        supervisor.release()
        assert (state(supervisor), supervisor.child_pid) == (State.UNLOADED, None)
        await supervisor.load()
        supervisor.hold(CROWDED, retry_after_s=1.0)
        await until(lambda: supervisor.child_pid is None)
        supervisor.release()
        await until(lambda: state(supervisor) is State.READY)


async def test_a_hold_while_the_process_starts_or_dies_is_not_lost(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await until(lambda: not supervisor._life.over.is_set())
        supervisor.hold(CROWDED, retry_after_s=1.0)
        supervisor.release()
        supervisor.hold(CROWDED, retry_after_s=1.0)
        await until(supervisor._life.over.is_set)
        assert (state(supervisor), supervisor.child_pid) == (State.HELD, None)
        supervisor.release()
        assert isinstance((await events_of(supervisor, ask("hello")))[-1], Done)


async def test_a_hold_between_two_starts_is_obeyed(supervise: Supervise) -> None:
    limits = Engine(restart_wait_s=60.0)
    async with supervise(limits=limits) as supervisor:
        await until(lambda: state(supervisor) is State.READY)
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        await until(lambda: state(supervisor) is State.RESTARTING)
        supervisor.hold(CROWDED, retry_after_s=1.0)
        await until(lambda: state(supervisor) is State.HELD)
        supervisor.release()  # which is a better reason to try than any pause
        await until(lambda: state(supervisor) is State.READY)


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


async def test_what_waits_for_a_slot_is_given_back_and_what_runs_is_not(
    supervise: Supervise,
) -> None:
    async with supervise(SLOW, "--slots=1") as supervisor:
        running = begin(supervisor, "a b c d e f g h i j k l m n")
        await until(lambda: supervisor.running == 1)
        waiting = begin(supervisor, "later")
        await until(lambda: supervisor.waiting == 1)
        assert supervisor.recall(CROWDED, retry_after_s=9.0) == 1
        assert code(await waiting) == Recalled.code
        assert supervisor.recall(CROWDED, retry_after_s=9.0) == 0
        assert isinstance((await running)[-1], Done)


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


async def test_the_newest_of_the_lowest_priority_gives_way(supervise: Supervise) -> None:
    async with supervise(SLOW, "--slots=3") as supervisor:
        high = begin(supervisor, f"high {LONG}", priority=Priority.HIGH)
        older, newer = [begin(supervisor, f"{name} {LONG}") for name in ("older", "newer")]
        await until(lambda: supervisor.running == 3)
        assert supervisor.preempt(CROWDED, retry_after_s=9.0) == 1
        failed = (await newer)[-1]
        assert isinstance(failed, Failed)
        assert (failed.code, failed.retryable, failed.retry_after_s) == (Pressure.code, True, 9.0)
        assert not older.done()
        assert supervisor.preempt(CROWDED, retry_after_s=9.0, most=5) == 2
        assert [code(await task) for task in (older, high)] == [Pressure.code] * 2
        # Their slots are free: the engine has stopped working on them.
        assert isinstance((await events_of(supervisor, ask("now me")))[-1], Done)
        assert supervisor.preempt(CROWDED, retry_after_s=9.0) == 0


async def test_nobody_gives_way_where_nothing_runs(supervise: Supervise) -> None:
    async with supervise(keep_alive=HOUR_S) as supervisor:
        await until(lambda: state(supervisor) is State.UNLOADED)
        assert supervisor.preempt(CROWDED, retry_after_s=1.0) == 0


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


async def test_nothing_rings_after_the_end(supervise: Supervise) -> None:
    async with supervise(keep_alive=0.05) as supervisor:
        await supervisor.load()

    assert supervisor._life.stay._alarm is None


async def test_what_the_engine_keeps_is_known_and_given_back_on_demand(
    supervise: Supervise,
) -> None:
    async with supervise() as supervisor:
        assert supervisor.kept_bytes == 0
        await events_of(supervisor, ask("one"))
        await until(lambda: supervisor.kept_bytes == 1000)
        supervisor.shrink_prefixes(300)
        await until(lambda: supervisor.kept_bytes == 300)
        supervisor.shrink_prefixes(AS_CONFIGURED_BYTES)
        await events_of(supervisor, ask("two"))
        await until(lambda: supervisor.kept_bytes == 1300)


async def test_the_next_engine_keeps_no_more_than_the_last_was_told(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        supervisor.shrink_prefixes(0)  # before there is one
        await events_of(supervisor, ask("one"))
        await supervisor.unload("asked to")
        supervisor.shrink_prefixes(400)
        await events_of(supervisor, ask("two"))
        await until(lambda: supervisor.kept_bytes == 400)
