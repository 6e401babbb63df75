"""Log-probabilities against their definition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.logprobs import LEAST_LOGPROB, Asked, Unsaid, look

if TYPE_CHECKING:
    from edge_agent.messages import TokenLogprob

VOCAB = 9000


def spell(token: int) -> tuple[str, bytes | None]:
    return (str(token), str(token).encode()) if token else ("<|end|>", None)


def told(logits: np.ndarray, token: int, num_top: int = 0) -> TokenLogprob:
    return look(logits, token, Asked(num_top=num_top, spell=spell))


@given(st.integers(0, VOCAB - 1), st.integers(0, 1 << 32), st.sampled_from([0.1, 3.0, 30.0]))
def test_a_logprob_is_that_of_the_softmax(token: int, seed: int, spread: float) -> None:
    logits = (np.random.default_rng(seed).normal(size=VOCAB) * spread).astype(np.float32)
    exact = logits.astype(np.float64) - logits.max()
    exact -= np.log(np.exp(exact).sum())

    entry = told(logits, token, num_top=20)

    assert entry.logprob == pytest.approx(exact[token], abs=1e-5)
    assert [other.logprob for other in entry.top] == pytest.approx(
        np.sort(exact)[::-1][:20].tolist(), abs=1e-5
    )
    assert math.fsum(math.exp(other.logprob) for other in entry.top) <= 1 + 1e-6


def test_what_cannot_be_has_the_least_logprob_and_what_must_be_has_none() -> None:
    logits = np.array([-np.inf, 5, -np.inf], np.float32)

    assert told(logits, 1).logprob == 0.0
    assert told(logits, 2).logprob == LEAST_LOGPROB


def test_tokens_are_spelled() -> None:
    entry = told(np.array([1, 2, 0], np.float32), 1, num_top=2)

    assert (entry.text, entry.data) == ("1", b"1")
    assert [(other.text, other.data) for other in entry.top] == [("1", b"1"), ("<|end|>", None)]
    assert entry.top[1].top == ()


def test_entries_wait_for_their_first_character() -> None:
    unsaid = Unsaid(Asked(num_top=0, spell=spell))
    for token, first_char in ((1, 0), (2, 3), (0, 5), (3, 5)):
        unsaid.note(token, np.zeros(4, np.float32), first_char=first_char)

    assert unsaid.due(0) == ()
    assert [entry.text for entry in unsaid.due(4)] == ["1", "2"]
    assert unsaid.due(5) == ()
    assert [entry.text for entry in unsaid.rest()] == ["<|end|>", "3"]
    assert unsaid.rest() == ()
