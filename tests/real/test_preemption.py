"""A request that is preempted on real weights goes on as if nothing had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.engine.engine import Engine
from edge_agent.messages import Delta, Done, Message, Priority, Request, Role, Sampling
from edge_agent.modelstore.store import ModelStore
from tests.conftest import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.messages import Event

pytestmark = pytest.mark.real

ANSWER_TOKENS = 24
QUESTION = "Write one sentence about a lighthouse."


@pytest.fixture
def engine(model_home: Path) -> Iterator[Engine]:
    engine = Engine(
        ModelStore(model_home).package(MODEL),
        slots=1, context=512, chunk_tokens=64, threads=2, queue_requests=4,
    )  # fmt: skip
    yield engine
    engine.close()


def submit(engine: Engine, name: str, prompt: str, priority: Priority) -> None:
    request = Request(
        id=name,
        messages=(Message(role=Role.USER, content=prompt),),
        max_tokens=ANSWER_TOKENS,
        sampling=Sampling(temperature=0),
        priority=priority,
    )
    engine.submit(engine.prepare(request))


def run(engine: Engine, *, tokens: int | None = None) -> dict[str, list[Event]]:
    """Step until nothing is left, or until so many pieces of text came."""
    told: dict[str, list[Event]] = {}
    pieces = 0
    while engine.busy and pieces != tokens:
        for name, event in engine.step():
            told.setdefault(name, []).append(event)
            pieces += isinstance(event, Delta)
    return told


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_a_preempted_answer_is_that_of_one_left_alone(engine: Engine) -> None:
    submit(engine, "alone", QUESTION, Priority.LOW)
    alone = run(engine)["alone"]
    engine.shrink_prefixes(0)  # nothing of it helps the next one
    engine.shrink_prefixes(1 << 40)

    submit(engine, "low", QUESTION, Priority.LOW)
    told = run(engine, tokens=5)["low"]
    submit(engine, "high", "What is the capital of France?", Priority.HIGH)
    counts = engine._prefixes.counts
    before = counts.computed
    rest = run(engine)
    told += rest["low"]

    assert "Paris" in text_of(rest["high"])
    assert text_of(told) == text_of(alone)
    high, low, usual = rest["high"][-1], told[-1], alone[-1]
    assert isinstance(high, Done)
    assert isinstance(low, Done)
    assert isinstance(usual, Done)
    assert low.usage == usual.usage
    assert low.timings.queue_s > usual.timings.queue_s
    # Each token once: those of the urgent prompt and its answer, and what was left of the low one.
    urgent = high.usage.total_tokens - 1 - high.usage.cached_tokens
    assert counts.computed - before == urgent + low.usage.completion_tokens - 5
