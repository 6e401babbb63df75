"""Answers of real engine processes, those that die among them, and who is blamed for that."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Engine
from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Done,
    Failed,
    fold,
)
from tests.worker.asking import LONG, SLOW, ask, engine_pid, events_of, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from edge_agent.worker.supervisor import Supervisor

    Supervise = Callable[..., AbstractAsyncContextManager[Supervisor]]


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


async def test_closing_a_stream_frees_its_slot(supervise: Supervise) -> None:
    async with supervise("--slots=1", SLOW) as supervisor:
        async with aclosing(supervisor.stream(ask(LONG))) as events:
            assert isinstance(await anext(events), Accepted)
            assert isinstance(await anext(events), Delta)
        assert (supervisor.running, supervisor.waiting) == (0, 0)
        # With one slot, this answer can only come when the first request is really gone.
        assert isinstance((await events_of(supervisor, ask("now me")))[-1], Done)
