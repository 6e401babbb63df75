"""Greedy answers of the engine beside those of the float model, token by token.

The bar is llama.cpp on the same weights and prompt ids; `reference.json` holds both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.engine.engine import Engine
from edge_agent.messages import Message, Request, Sampling
from edge_agent.modelstore.store import ModelStore
from edge_agent.text.tokenizer import Tokenizer
from tests.conftest import MODEL
from tests.real.fidelity.agreement import count_agreement
from tests.real.fidelity.reference import ANSWER_TOKENS, PROMPTS_PATH, Reference, read_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.real


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    messages: tuple[Message, ...]

    def request(self) -> Request:
        return Request(
            id=self.name,
            messages=self.messages,
            sampling=Sampling(temperature=0),
            max_tokens=ANSWER_TOKENS,
        )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference()


@pytest.fixture(scope="module")
def prompts() -> tuple[Prompt, ...]:
    return msgspec.json.decode(PROMPTS_PATH.read_bytes(), type=tuple[Prompt, ...])


@pytest.fixture(scope="module")
def engine(model_home: Path) -> Iterator[Engine]:
    engine = Engine(
        ModelStore(model_home).package(MODEL),
        slots=1,
        context=1024,
        chunk_tokens=128,
        threads=2,
        queue_requests=1,
    )
    yield engine
    engine.close()


def test_prompts_are_tokenized_as_the_reference_does(
    engine: Engine, prompts: Sequence[Prompt], reference: Reference
) -> None:
    ours = {prompt.name: tuple(engine.prepare(prompt.request()).prompt) for prompt in prompts}
    assert ours == {expected.name: expected.prompt_ids for expected in reference.answers}


def test_answers_are_nearer_to_the_float_model_than_those_of_llama_cpp(
    engine: Engine,
    prompts: Sequence[Prompt],
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[int] = []
    bytes_of = Tokenizer.bytes_of

    def note(tokenizer: Tokenizer, token: int) -> bytes:
        chosen.append(token)
        return bytes_of(tokenizer, token)

    # Events carry text; every chosen token passes here on its way to text.
    monkeypatch.setattr(Tokenizer, "bytes_of", note)
    answers = []
    for prompt in prompts:
        engine.submit(engine.prepare(prompt.request()))
        while engine.busy:
            engine.step()
        answers.append(tuple(chosen))
        chosen.clear()

    ours = count_agreement([(each.ids, each.gaps) for each in reference.answers], answers)
    bar = reference.peers["llama.cpp"]
    print(f"edge_agent: {ours}; llama.cpp: {bar.identical}, {bar.identical_or_near_tie}")  # noqa: T201  # the figure
    assert ours.identical > bar.identical
    assert ours.identical_or_near_tie > bar.identical_or_near_tie
