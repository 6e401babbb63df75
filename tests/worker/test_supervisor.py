"""The supervisor against real engine processes that die, hang, refuse to load and answer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Engine, Memory
from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Done,
    Failed,
    Request,
    fold,
)
from edge_agent.ops.health import State
from edge_agent.worker import life
from edge_agent.worker.child import KILL_GRACE_S, Child
from edge_agent.worker.standing import Standing
from edge_agent.worker.supervisor import Supervisor
from tests.worker.asking import LONG, SLOW, ask, engine_pid, events_of, is_alive, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]

PATIENCE_S = 20.0


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def _ignore(_request: Request) -> None:
    """Take no note of a request that is over."""


async def test_an_answer_comes_in_order_and_ends_once(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        events = await events_of(supervisor, ask("one two three"))

    assert events[0] == Accepted(prompt_tokens=3)
    assert events[1:-1] == [Delta("0:three "), Delta("1:two "), Delta("2:one ")]
    assert isinstance(events[-1], Done)


async def test_more_requests_than_slots_all_get_their_own_answer(supervise: Supervise) -> None:
    async with supervise("--slots=2") as supervisor:
        streams = [events_of(supervisor, ask(f"a{i} b{i}", f"r{i}")) for i in range(12)]
        answers = [fold(events) for events in await asyncio.gather(*streams)]

    texts = [answer.text for answer in answers if isinstance(answer, Answer)]
    assert texts == [f"0:b{i} 1:a{i} " for i in range(12)]


async def test_two_clients_with_the_same_id_do_not_see_each_other(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        first, second = await asyncio.gather(
            events_of(supervisor, ask("mine", "same")), events_of(supervisor, ask("yours", "same"))
        )

    assert (Delta("0:mine ") in first, Delta("0:yours ") in first) == (True, False)
    assert (Delta("0:mine ") in second, Delta("0:yours ") in second) == (False, True)


async def test_a_refusal_of_the_engine_is_the_only_event(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        events = await events_of(supervisor, ask("word " * 2000))

    assert [getattr(event, "code", None) for event in events] == ["context_length_exceeded"]


async def test_a_bug_under_one_request_fails_it_alone(supervise: Supervise) -> None:
    async with supervise() as supervisor:
        broken = await events_of(supervisor, ask("bug in prepare"))
        fine = await events_of(supervisor, ask("next"))
        assert supervisor.restarts == 0

    assert [getattr(event, "code", None) for event in broken] == ["internal"]
    assert isinstance(fine[-1], Done)


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_killed_engine_fails_running_and_queued_and_comes_back(
    supervise: Supervise, slots: int
) -> None:
    async with supervise(SLOW, f"--slots={slots}") as supervisor:
        tasks = [asyncio.create_task(events_of(supervisor, ask(LONG, f"r{i}"))) for i in range(3)]
        await until(lambda: (supervisor.running, supervisor.waiting) == (slots, 3 - slots))
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        endings = [(await task)[-1] for task in tasks]
        again = await events_of(supervisor, ask("still there"))
        assert supervisor.restarts == 1

    for ending in endings:
        assert isinstance(ending, Failed)
        assert (ending.code, ending.retryable) == ("engine_crashed", True)
        assert "SIGKILL" in ending.message
    assert isinstance(again[-1], Done)


async def test_a_request_that_crashes_the_engine_three_times_is_poison(
    supervise: Supervise,
) -> None:
    async with supervise() as supervisor:
        codes = [
            getattr((await events_of(supervisor, ask("die at word 2", f"r{i}")))[-1], "code", None)
            for i in range(4)
        ]
        neighbour = await events_of(supervisor, ask("harmless"))
        assert supervisor.restarts == 3

    assert codes == ["engine_crashed"] * 3 + ["poison"]
    assert isinstance(neighbour[-1], Done)


async def test_an_answer_clears_the_crashes_it_was_a_witness_of(supervise: Supervise) -> None:
    limits = Engine(restart_wait_s=0.05, max_crashes=2)
    async with supervise(SLOW, limits=limits) as supervisor:
        for _ in range(3):
            witness = asyncio.create_task(events_of(supervisor, ask("a b c d e f g h")))
            await until(lambda: supervisor.running == 1)
            os.kill(engine_pid(supervisor), signal.SIGKILL)
            await witness
            events = await events_of(supervisor, ask("a b c d e f g h"))
            assert isinstance(events[-1], Done)


async def test_a_queued_request_is_no_suspect(supervise: Supervise) -> None:
    limits = Engine(restart_wait_s=0.05, max_crashes=1)
    async with supervise(SLOW, "--slots=1", limits=limits) as supervisor:
        first = asyncio.create_task(events_of(supervisor, ask(LONG)))
        await until(lambda: supervisor.running == 1)
        second = asyncio.create_task(events_of(supervisor, ask("I only waited")))
        await until(lambda: supervisor.waiting == 1)
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        await asyncio.gather(first, second)

        assert getattr((await events_of(supervisor, ask(LONG)))[-1], "code", None) == "poison"
        assert isinstance((await events_of(supervisor, ask("I only waited")))[-1], Done)


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


async def test_a_request_waits_for_a_loading_engine_only_so_long(supervise: Supervise) -> None:
    limits = Engine(load_wait_s=0.05, restart_wait_s=60.0)
    async with supervise(limits=limits) as supervisor:
        await until(lambda: supervisor._life._standing.state is State.READY)
        os.kill(engine_pid(supervisor), signal.SIGKILL)
        await until(lambda: supervisor._life._standing.state is State.RESTARTING)
        events = await events_of(supervisor, ask("anyone?"))

    assert [getattr(event, "code", None) for event in events] == ["loading"]


async def test_closing_a_stream_frees_its_slot(supervise: Supervise) -> None:
    async with supervise("--slots=1", SLOW) as supervisor:
        async with aclosing(supervisor.stream(ask(LONG))) as events:
            assert isinstance(await anext(events), Accepted)
            assert isinstance(await anext(events), Delta)
        assert (supervisor.running, supervisor.waiting) == (0, 0)
        # With one slot, this answer can only come when the first request is really gone.
        assert isinstance((await events_of(supervisor, ask("now me")))[-1], Done)


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


async def test_a_child_that_ignores_its_stop_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = await Child.start([sys.executable, "-c", deaf], on_over=_ignore)
    await child.stop()
    assert not is_alive(child.pid)


async def test_a_child_that_talks_nonsense_is_killed(tmp_path: Path) -> None:
    mad = "import os, sys, time; os.write(int(sys.argv[1].split('=')[1]), b'\\xff' * 9)"
    child = await Child.start([sys.executable, "-c", f"{mad}; time.sleep(600)"], on_over=_ignore)
    gone = await child.live(stall_limit_s=PATIENCE_S, on_ready=lambda _: None)
    assert gone.how.startswith("link broken: frame of")
    assert not is_alive(child.pid)
