"""The supervisor as loader and unloader: on demand, when idle, when told, when memory is short."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Engine
from edge_agent.errors import Pressure, Recalled, Unsupported
from edge_agent.messages import Done, Failed, Priority
from edge_agent.ops.health import State
from edge_agent.worker.link import AS_CONFIGURED_BYTES, Drafts, Paused
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
    from pathlib import Path

    from edge_agent.worker.supervisor import Supervisor

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]

HOUR_S = 3600.0
CROWDED = "memory is critical"


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


async def test_a_load_brings_the_usual_stay_back(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await events_of(supervisor, ask("and go", keep_alive_s=0.0))
        await until(lambda: state(supervisor) is State.UNLOADED)
        await supervisor.load()
        await events_of(supervisor, ask("here"))
        assert state(supervisor) is State.READY


async def test_where_no_model_can_be_loaded_an_operator_is_told_so(supervise: Supervise) -> None:
    async with supervise("--wrong-processor", without_engine=State.RELAY) as supervisor:
        await until(lambda: state(supervisor) is State.RELAY)
        with pytest.raises(Unsupported, match="no model can be loaded here: this processor"):
            await supervisor.load()


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


async def test_an_unload_ends_a_load_that_nobody_waits_for(
    supervise: Supervise, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    async with supervise(f"--slow={slow}") as supervisor:
        await until(lambda: supervisor.child_pid is not None)
        await supervisor.unload("asked for")
        assert state(supervisor) is State.UNLOADED


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


async def test_what_had_to_pause_is_no_request_that_never_began(supervise: Supervise) -> None:
    async with supervise(SLOW) as supervisor:
        begun = begin(supervisor, LONG)
        await until(lambda: supervisor.running == 1)
        child = supervisor._life.child
        assert child
        child._take(Paused(id=child.streams[0].link_id), lambda _ready: None)
        assert (supervisor.running, supervisor.waiting) == (0, 1)
        assert supervisor.recall(CROWDED, retry_after_s=9.0) == 0
        assert supervisor.preempt(CROWDED, retry_after_s=9.0) == 1
        assert code(await begun) == Pressure.code


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


async def test_drafts_of_all_engines_are_counted(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        await events_of(supervisor, ask("one"))
        await until(lambda: supervisor.drafts == Drafts(drafted=3, accepted=2))
        await supervisor.unload("asked to")
        assert supervisor.drafts == Drafts(drafted=3, accepted=2)
        await events_of(supervisor, ask("two"))
        await until(lambda: supervisor.drafts == Drafts(drafted=6, accepted=4))
