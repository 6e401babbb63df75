"""The rules that hold for every answer, whatever the engine does."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from edge_agent.messages import (
    Accepted,
    Delta,
    Done,
    Event,
    Events,
    Failed,
    FinishReason,
    Message,
    Request,
    Role,
    Timings,
    Usage,
)
from edge_agent.serving.models import Models
from edge_agent.serving.router import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTED = Accepted(prompt_tokens=7)
DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=7, completion_tokens=2),
    timings=Timings(queue_s=0.0, prefill_s=1.0, decode_s=3.0),
)
TINY = Models("tiny", "tiny", {})
TYPED = "what somebody typed"


class ScriptedBackend:
    """Yields its script; an exception in it is raised, None waits for good."""

    def __init__(self, *script: Event | Exception | None) -> None:
        self._script = script
        self.asked: list[Request] = []
        self.is_asked = asyncio.Event()
        self.closed = 0

    async def stream(self, request: Request) -> Events:
        self.asked.append(request)
        self.is_asked.set()
        try:
            for step in self._script:
                if step is None:
                    await asyncio.Event().wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1


def request(
    *, model: str | None = None, deadline_s: float | None = None, request_id: str = "r"
) -> Request:
    message = Message(role=Role.USER, content=TYPED)
    return Request(id=request_id, messages=(message,), model=model, deadline_s=deadline_s)


def router(backend: ScriptedBackend, *, slots: int = 1, queue_requests: int = 1) -> Router:
    return Router(backend, models=TINY, slots=slots, queue_requests=queue_requests)


async def events_of(door: Router, asked: Request) -> list[Event]:
    async with aclosing(door.stream(asked)) as events:
        return [event async for event in events]


def codes(events: Sequence[Event]) -> list[str | None]:
    return [event.code if isinstance(event, Failed) else None for event in events]


async def test_what_the_engine_says_passes_unchanged() -> None:
    script = (ACCEPTED, Delta("a"), Delta("b"), DONE)
    assert await events_of(router(ScriptedBackend(*script)), request()) == list(script)


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
    assert await events_of(router(backend), request()) == [ACCEPTED, DONE]
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
    door = Router(backend, models=TINY, slots=1, queue_requests=1, clock=lambda: clock[0])
    async with aclosing(door.stream(request(deadline_s=5.0))) as events:
        assert await anext(events) == ACCEPTED
        clock[0] += 3600.0  # it went for lunch
        assert codes([await anext(events)]) == ["deadline_exceeded"]


async def test_a_reader_that_leaves_stops_the_engine_and_frees_its_place() -> None:
    backend = ScriptedBackend(ACCEPTED, Delta("tick"), None)
    door = router(backend)
    async with aclosing(door.stream(request())) as events:
        assert await anext(events) == ACCEPTED
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
        assert await anext(stream) == ACCEPTED

    refused = await events_of(door, request(request_id="r3"))
    assert codes(refused) == ["overloaded"]
    assert getattr(refused[0], "retry_after_s", None) == 1.0

    await inside[0].aclose()
    async with aclosing(door.stream(request(request_id="r4"))) as events:
        assert await anext(events) == ACCEPTED
    for stream in inside:
        await stream.aclose()


async def test_the_time_to_come_back_follows_the_measured_pace() -> None:
    backend = ScriptedBackend(ACCEPTED, DONE)  # 4 s of work each
    door = router(backend, slots=1, queue_requests=10)
    await events_of(door, request())
    stuck = Router(backend, models=TINY, slots=1, queue_requests=10)
    stuck._pace_s = door._pace_s
    stuck.open_requests = 11
    assert getattr((await events_of(stuck, request()))[0], "retry_after_s", None) == 20.0


async def test_draining_refuses_the_new_and_waits_for_the_old() -> None:
    door = router(ScriptedBackend(ACCEPTED, DONE))
    old = door.stream(request())
    assert await anext(old) == ACCEPTED
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
        "request done id=r by=local reason=stop prompt_tokens=7 new_tokens=2 ttft_ms="
    )
    assert TYPED not in line


async def test_the_line_names_a_reader_that_left_and_a_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_agent")
    async with aclosing(router(ScriptedBackend(ACCEPTED, None)).stream(request())) as events:
        await anext(events)
    await events_of(router(ScriptedBackend()), request(model="other"))
    assert [record.getMessage().split(" prompt_tokens")[0] for record in caplog.records] == [
        "request done id=r by=local reason=left",
        "request done id=r by=- reason=model_not_found",
    ]
