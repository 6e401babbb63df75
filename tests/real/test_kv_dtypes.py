"""Smaller KV caches on real weights: the engine answers, and takes the memory it is said to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from edge_agent.engine.engine import Engine
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.messages import Delta, Done, Message, Request, Role, Sampling
from edge_agent.modelstore.fit import kv_bytes_per_token
from edge_agent.modelstore.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

LONG = "The gateway logs a line every minute. " * 120


@pytest.fixture(scope="module")
def package(model_home: Path) -> Path:
    """Return the package as it was imported: with the scales of an int8 cache."""
    return model_home / "models" / "smollm2-135m-instruct"


def load(package: Path, kv_dtype: KvDtype) -> Engine:
    return Engine(
        package, slots=1, context=4096, chunk_tokens=128, threads=2, queue_requests=1,
        kv_dtype=kv_dtype,
    )  # fmt: skip


def answer(engine: Engine, prompt: str, *, max_tokens: int) -> str:
    message = Message(role=Role.USER, content=prompt)
    greedy = Sampling(temperature=0)
    request = Request(id="q", messages=(message,), max_tokens=max_tokens, sampling=greedy)
    engine.submit(engine.prepare(request))
    events = [event for _ in range(200) if engine.busy for _, event in engine.step()]
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.mark.parametrize("kv_dtype", KvDtype)
def test_every_cache_answers_and_takes_the_memory_it_should(
    package: Path, kv_dtype: KvDtype
) -> None:
    engine = load(package, kv_dtype)

    assert "Paris" in answer(engine, "What is the capital of France?", max_tokens=16)

    request = Request(id="long", messages=(Message(role=Role.USER, content=LONG),), max_tokens=1)
    prepared = engine.prepare(request)
    expected = len(prepared.prompt) * kv_bytes_per_token(read_manifest(package).shape, kv_dtype)
    engine.submit(prepared)
    for _ in range(len(prepared.prompt) // 128):
        engine.step()
    before = psutil.Process().memory_info().rss
    engine.close()
    assert before - psutil.Process().memory_info().rss == pytest.approx(expected, rel=0.15)
