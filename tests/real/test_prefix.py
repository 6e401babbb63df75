"""Prompts that begin like others, on real weights: less is computed, and the answer is the same."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil
import pytest

from edge_agent.engine.engine import Engine
from edge_agent.messages import (
    Answer,
    Beginning,
    Delta,
    Event,
    Failed,
    Message,
    Request,
    Role,
    Sampling,
    Tool,
    Usage,
    fold,
)
from edge_agent.modelstore.store import ModelStore
from tests.conftest import MODEL
from tests.real.greedy import GreedyModel, may_be_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.real

ANSWER_TOKENS = 24
MANUAL = " ".join(
    f"Rule {n}: pump {n} runs at {n * 7} percent when tank {n} is full." for n in range(20)
)
TOOLS = tuple(
    Tool(
        name=f"pump_{n}",
        description=f"Sets the speed of pump {n}.",
        parameters={"type": "object", "properties": {"percent": {"type": "number"}}},
    )
    for n in range(4)
)
QUESTIONS = ["What is the capital of France?", "Which pump is first?", "Name a fruit.", "Why?"]


@pytest.fixture
def engine(model_home: Path) -> Iterator[Engine]:
    engine = Engine(
        ModelStore(model_home).package(MODEL),
        slots=2,
        context=1024,
        chunk_tokens=128,
        threads=2,
        queue_requests=8,
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(model_home: Path) -> GreedyModel:
    return GreedyModel(ModelStore(model_home).package(MODEL))


def ask(name: str, *turns: str, max_tokens: int = ANSWER_TOKENS) -> Request:
    roles = (Role.USER, Role.ASSISTANT)
    return Request(
        id=name,
        messages=tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(turns)),
        max_tokens=max_tokens,
        sampling=Sampling(temperature=0),
    )


def run(engine: Engine, *requests: Request) -> list[Answer]:
    told: dict[str, list[Event]] = {request.id: [] for request in requests}
    for request in requests:
        engine.submit(engine.prepare(request))
    while engine.busy:
        for name, event in engine.step():
            told[name].append(event)
    answers = [fold(events) for events in told.values()]
    assert all(isinstance(answer, Answer) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Answer)]


def usages(answers: Sequence[Answer]) -> list[Usage]:
    return [answer.done.usage for answer in answers]


def test_answers_from_a_known_beginning_are_those_of_the_whole_prompt(
    engine: Engine, alone: GreedyModel
) -> None:
    prompts = [f"{MANUAL} {question}" for question in QUESTIONS]
    [first] = run(engine, ask("first", prompts[0]))
    rest = run(engine, *(ask(prompt, prompt) for prompt in prompts[1:]))
    again = run(engine, *(ask(prompt, prompt) for prompt in prompts))

    assert first.done.usage.cached_tokens == 0
    for usage in usages(rest):
        assert usage.cached_tokens > usage.prompt_tokens * 0.9
    assert all(u.prompt_tokens - u.cached_tokens < 20 for u in usages(again))
    for prompt, answer in zip(prompts * 2, [first, *rest, *again], strict=True):
        assert may_be_answer(answer.text, alone.choices(prompt, ANSWER_TOKENS))


def test_the_same_prompt_again_computes_one_token_of_it(engine: Engine) -> None:
    run(engine, ask("one", QUESTIONS[0]))
    [again] = run(engine, ask("two", QUESTIONS[0]))

    assert "Paris" in again.text
    assert again.done.usage.cached_tokens == again.done.usage.prompt_tokens - 1


def test_a_conversation_goes_on_from_its_answer(engine: Engine) -> None:
    [first] = run(engine, ask("one", QUESTIONS[0]))
    [second] = run(engine, ask("two", QUESTIONS[0], first.text, "And of Italy?"))

    # The answer's own tokens are known too, but the last, which ended it.
    before = first.done.usage
    assert second.done.usage.cached_tokens >= before.prompt_tokens + before.completion_tokens - 1
    assert "Rome" in second.text


def test_of_requests_that_come_together_one_reads_what_all_begin_with(engine: Engine) -> None:
    answers = run(engine, *(ask(q, f"{MANUAL} {q}") for q in QUESTIONS[:2]))

    reader, other = sorted(usages(answers), key=lambda usage: usage.cached_tokens)
    assert reader.cached_tokens == 0
    # The other may have filled up the chunk in which the reader ended.
    assert other.prompt_tokens - 128 < other.cached_tokens < other.prompt_tokens


def test_what_a_cancelled_request_had_read_is_not_read_again(engine: Engine) -> None:
    request = ask("gone", MANUAL)
    engine.submit(engine.prepare(request))
    for _ in range(2):
        engine.step()
    engine.cancel("gone")
    [(_, told)] = [event for event in engine.step() if not isinstance(event[1], Delta)]
    [answer] = run(engine, ask("again", MANUAL))

    assert isinstance(told, Failed)
    assert answer.done.usage.cached_tokens == 256


def test_kept_slots_are_as_the_books_say_while_others_run(engine: Engine) -> None:
    run(engine, ask("kept", MANUAL))
    layers = engine._decoder.arena.layers
    length = len(engine._prefixes.held(0))
    before = [array[0, :, :length].copy() for sides in layers for array in sides]
    run(engine, *(ask(f"{n}", f"Number {n} says {q}") for n, q in enumerate(QUESTIONS)))

    assert length > 400
    assert len(engine._prefixes.held(0)) == length
    after = [array[0, :, :length] for sides in layers for array in sides]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_prefixes_give_their_memory_back_when_asked(engine: Engine) -> None:
    run(engine, ask("kept", MANUAL))
    process = psutil.Process()
    before = process.memory_info().rss
    freed = engine.shrink_prefixes(0)

    assert freed > 20 << 20
    assert before - process.memory_info().rss > freed * 0.95
    assert usages(run(engine, ask("again", MANUAL)))[0].cached_tokens == 0
    assert engine.shrink_prefixes(0) == 0
    engine.shrink_prefixes(1 << 40)
    run(engine, ask("kept again", MANUAL))
    assert usages(run(engine, ask("known again", MANUAL)))[0].cached_tokens > 400


def test_without_a_budget_nothing_is_shared(model_home: Path) -> None:
    engine = Engine(
        ModelStore(model_home).package(MODEL),
        slots=2, context=512, chunk_tokens=128, threads=2, queue_requests=2, prefix_bytes=0,
    )  # fmt: skip
    together = run(engine, ask("a", QUESTIONS[0]), ask("b", QUESTIONS[0]))
    [later] = run(engine, ask("c", QUESTIONS[0]))

    assert [usage.cached_tokens for usage in usages([*together, later])] == [0, 0, 0]


@pytest.mark.parametrize("tools", [(), TOOLS], ids=["prompt", "tools"])
@pytest.mark.parametrize("kv_dtype", ["fp32", "int8"])
def test_what_is_pinned_is_known_after_a_restart(
    model_home: Path, tmp_path: Path, kv_dtype: str, tools: tuple[Tool, ...]
) -> None:
    package = tmp_path / MODEL
    shutil.copytree(ModelStore(model_home).package(MODEL), package, copy_function=_link)
    rules = Message(role=Role.SYSTEM, content=MANUAL)
    plain = ask("q", QUESTIONS[0])
    request = msgspec.structs.replace(plain, messages=(rules, *plain.messages), tools=tools)

    def start(pinned: tuple[Beginning, ...] | None) -> Answer:
        engine = Engine(
            package, slots=1, context=1024, chunk_tokens=128, threads=2, queue_requests=8,
            kv_dtype=kv_dtype, pinned=pinned,
        )  # fmt: skip
        (answer,) = run(engine, request)
        engine.close()
        return answer

    pinned = (Beginning(name="manual", system=MANUAL, tools=tools),)
    without, made, mapped = start(None), start(pinned), start(pinned)

    assert without.done.usage.cached_tokens == 0
    assert made.done.usage.cached_tokens == mapped.done.usage.cached_tokens
    assert mapped.done.usage.cached_tokens > 0.9 * mapped.done.usage.prompt_tokens
    assert made.text == mapped.text
    if kv_dtype == "fp32":
        assert mapped.text == without.text


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)
