"""Drafts on real weights: the same answers in fewer steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_agent.engine.engine import Engine
from edge_agent.messages import Delta, Message, Request, Role, Sampling
from tests.bench.workloads import Workload, tasks
from tests.real.fidelity.agreement import first_difference, parts_at_near_tie

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_agent.messages import TokenLogprob

pytestmark = pytest.mark.real

PROMPTS = json.loads((Path(__file__).parent / "fidelity" / "prompts.json").read_text())
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def home(model_home: Path) -> Path:
    return model_home / "models" / "smollm2-135m-instruct"


def load(package: Path, draft_tokens: int) -> Engine:
    return Engine(
        package, slots=1, context=1024, chunk_tokens=128, threads=2, queue_requests=1,
        prefix_bytes=0, draft_tokens=draft_tokens,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(home: Path) -> Iterator[Engine]:
    engine = load(home, 0)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def drafting(home: Path) -> Iterator[Engine]:
    engine = load(home, 7)
    yield engine
    engine.close()


def answer(
    engine: Engine, messages: Sequence[Message], *, sampling: Sampling = GREEDY, tokens: int = 32
) -> tuple[list[TokenLogprob], int]:
    """Return the tokens of the answer, and the steps that it took."""
    request = Request(
        id="a", messages=tuple(messages), max_tokens=tokens, sampling=sampling, logprobs=2
    )
    engine.submit(engine.prepare(request))
    told: list[TokenLogprob] = []
    steps = 0
    while engine.busy:
        for _, event in engine.step():
            if isinstance(event, Delta):
                told += event.logprobs
        steps += 1
    return told, steps


def is_same(alone: Sequence[TokenLogprob], drafted: Sequence[TokenLogprob]) -> bool:
    """Tell whether both are one answer, or part where the best two logits are a near tie."""
    position = first_difference([e.text for e in alone], [e.text for e in drafted])
    gaps = [entry.top[0].logprob - entry.top[1].logprob for entry in alone]
    return position is None or parts_at_near_tie(gaps, position)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt["name"].replace(" ", "-"))
def test_a_greedy_answer_is_the_same_with_drafts(
    plain: Engine, drafting: Engine, prompt: dict[str, list[dict[str, str]]]
) -> None:
    messages = [Message(role=Role(m["role"]), content=m["content"]) for m in prompt["messages"]]

    assert is_same(answer(plain, messages)[0], answer(drafting, messages)[0])


@pytest.mark.parametrize("workload", [Workload.EXTRACTION, Workload.JSON_ECHO])
def test_what_copies_takes_fewer_steps(plain: Engine, drafting: Engine, workload: Workload) -> None:
    [task] = tasks(workload, count=1)
    before = drafting._speculation.accepted
    alone, steps = answer(plain, task.messages, tokens=80)
    drafted, fewer_steps = answer(drafting, task.messages, tokens=80)

    assert is_same(alone, drafted)
    assert drafting._speculation.accepted > before
    assert fewer_steps < steps


def test_a_seeded_answer_is_the_same_with_drafts(plain: Engine, drafting: Engine) -> None:
    [task] = tasks(Workload.JSON_ECHO, count=1)
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=3)
    alone, _ = answer(plain, task.messages, sampling=sampling)
    drafted, _ = answer(drafting, task.messages, sampling=sampling)

    assert [entry.text for entry in drafted] == [entry.text for entry in alone]
