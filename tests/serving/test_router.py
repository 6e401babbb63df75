"""The rules that hold for every answer, whatever the engine does."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge_agent.messages import Delta
from edge_agent.ops.health import State
from tests.serving.house import (
    ACCEPTED,
    CALM,
    DONE,
    HERE,
    RULES,
    TYPED,
    ScriptedBackend,
    Site,
    codes,
    events_of,
    request,
)

if TYPE_CHECKING:
    from edge_agent.messages import Event
    from edge_agent.serving.router import Router


def router(backend: ScriptedBackend, *, slots: int = 1, queue_requests: int = 1) -> Router:
    rules = replace(RULES, slots=slots, queue_requests=queue_requests)
    return Site(backend, rules=rules).router


async def test_what_the_engine_says_passes_unchanged() -> None:
    answer = (Delta("a"), Delta("b"), DONE)
    backend = ScriptedBackend(ACCEPTED, *answer)
    assert await events_of(router(backend), request()) == [HERE, *answer]


@pytest.mark.parametrize("name", [None, "tiny", "tiny:latest"])
async def test_the_model_goes_by_these_names(name: str | None) -> None:
    events = await events_of(router(ScriptedBackend(ACCEPTED, DONE)), request(model=name))
    assert events[-1] == DONE


@pytest.mark.parametrize("name", ["", "tin", "tiny:1b", "TINY", "tiny:latest:latest"])
async def test_another_model_is_refused_by_name(name: str) -> None:
    backend = ScriptedBackend(ACCEPTED, DONE)
    events = await events_of(router(backend), request(model=name))
    assert codes(events) == ["model_not_found"]
    assert not backend.asked


@pytest.mark.parametrize(
    "script",
    [
        (),
        (ACCEPTED, Delta("a")),
        (ACCEPTED, RuntimeError("bug")),
        (RuntimeError("bug"),),
    ],
)
async def test_a_stream_that_breaks_off_ends_in_internal(
    script: tuple[Event | Exception, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    events = await events_of(router(ScriptedBackend(*script)), request())
    assert codes(events)[-1] == "internal"
    assert codes(events)[:-1] == [None] * (len(events) - 1)
    assert caplog.records
    assert TYPED not in caplog.text


async def test_nothing_comes_after_the_end() -> None:
    backend = ScriptedBackend(ACCEPTED, DONE, Delta("late"), DONE)
    assert await events_of(router(backend), request()) == [HERE, DONE]
    assert backend.closed == 1


async def test_a_deadline_before_the_start_is_expired() -> None:
    backend = ScriptedBackend(None)
    assert codes(await events_of(router(backend), request(deadline_s=0.01))) == ["expired"]
    assert backend.closed == 1


async def test_a_deadline_in_mid_answer_is_exceeded() -> None:
    backend = ScriptedBackend(ACCEPTED, Delta("a"), None)
    events = await events_of(router(backend), request(deadline_s=0.05))
    assert codes(events) == [None, None, "deadline_exceeded"]
    assert backend.closed == 1


async def test_a_slow_reader_meets_its_deadline_and_no_exception() -> None:
    clock = [100.0]
    backend = ScriptedBackend(ACCEPTED, None)
    door = Site(backend, clock=lambda: clock[0]).router
    async with aclosing(door.stream(request(deadline_s=5.0))) as events:
        assert await anext(events) == HERE
        clock[0] += 3600.0  # it went for lunch
        assert codes([await anext(events)]) == ["deadline_exceeded"]


async def test_a_reader_that_leaves_stops_the_engine_and_frees_its_place() -> None:
    backend = ScriptedBackend(ACCEPTED, Delta("tick"), None)
    door = router(backend)
    async with aclosing(door.stream(request())) as events:
        assert await anext(events) == HERE
        assert door.open_requests == 1
    assert backend.closed == 1
    assert door.open_requests == 0


async def test_a_cancelled_reader_stops_the_engine() -> None:
    backend = ScriptedBackend(ACCEPTED, None)
    door = router(backend)
    reader = asyncio.create_task(events_of(door, request()))
    await backend.is_asked.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (backend.closed, door.open_requests) == (1, 0)


async def test_more_than_slots_and_queue_are_told_when_to_come_back() -> None:
    backend = ScriptedBackend(ACCEPTED, None)
    door = router(backend, slots=1, queue_requests=2)
    inside = [door.stream(request(request_id=f"r{i}")) for i in range(3)]
    for stream in inside:
        assert await anext(stream) == HERE

    refused = await events_of(door, request(request_id="r3"))
    assert codes(refused) == ["overloaded"]
    assert getattr(refused[0], "retry_after_s", None) == 1.0
    assert getattr(refused[0], "reason", None) == "queue"

    await inside[0].aclose()
    async with aclosing(door.stream(request(request_id="r4"))) as events:
        assert await anext(events) == HERE
    for stream in inside:
        await stream.aclose()


async def test_the_time_to_come_back_follows_the_measured_pace() -> None:
    backend = ScriptedBackend(ACCEPTED, DONE)  # 4 s of work each
    door = router(backend, slots=1, queue_requests=10)
    await events_of(door, request())
    backend.then(ACCEPTED, None)
    inside = [door.stream(request(request_id=f"r{i}")) for i in range(11)]
    for stream in inside:
        assert await anext(stream) == HERE
    assert getattr((await events_of(door, request()))[0], "retry_after_s", None) == 20.0
    assert door.expected_wait_s() == 44.0
    assert door.expected_wait_s(0) == 0.0
    for stream in inside:
        await stream.aclose()


async def test_draining_refuses_the_new_and_waits_for_the_old() -> None:
    door = router(ScriptedBackend(ACCEPTED, DONE))
    old = door.stream(request())
    assert await anext(old) == HERE
    door.drain()
    empty = asyncio.create_task(door.wait_empty())

    assert codes(await events_of(door, request())) == ["draining"]
    assert not empty.done()
    assert await anext(old) == DONE
    await old.aclose()
    async with asyncio.timeout(5):
        await empty


async def test_one_line_tells_of_a_request_and_never_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_agent")
    await events_of(router(ScriptedBackend(ACCEPTED, Delta("x"), DONE)), request())
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "request done id=r by=local why=local reason=stop prompt_tokens=7 cached_tokens=0 "
        "new_tokens=2 ttft_ms="
    )
    assert TYPED not in line


async def test_the_line_names_a_reader_that_left_and_a_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_agent")
    async with aclosing(router(ScriptedBackend(ACCEPTED, None)).stream(request())) as events:
        await anext(events)
    await events_of(router(ScriptedBackend()), request(model="other"))
    failed = replace(CALM, state=State.FAILED, detail="no such model")
    await Site(ScriptedBackend(), house=failed).ask()
    assert [record.getMessage().split(" prompt_tokens")[0] for record in caplog.records] == [
        "request done id=r by=local why=local reason=left",
        "request done id=r by=- why=- reason=model_not_found",
        "request done id=r by=- why=no-local-model reason=loading",
    ]
