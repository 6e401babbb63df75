"""What is forbidden, and what is added to logits; the penalties are tested with the sampler."""

from __future__ import annotations

import numpy as np

from edge_agent.engine.adjustments import Late, adjustments
from edge_agent.engine.sampler import Picker
from edge_agent.messages import Sampling

GREEDY = Sampling(temperature=0)
LOGITS = np.array([3, 2, 1, 0], np.float32)


def picked(num: int, picker: Picker) -> list[int]:
    return [picker.pick(LOGITS.copy()) for _ in range(num)]


def test_who_asks_for_nothing_has_nothing_adjusted() -> None:
    plain = Sampling(repetition_penalty=1, presence_penalty=0, frequency_penalty=0)
    late = Late(ids=(1,), min_tokens=0)

    assert adjustments(plain, prompt=(1,), vocab=4, bias={}, late=late) == []


def test_late_tokens_come_when_there_are_enough_others() -> None:
    picker = Picker(GREEDY, prompt=(), vocab=4, late=Late(ids={0, 1}, min_tokens=2))

    assert picked(4, picker) == [2, 2, 0, 0]


def test_no_bias_brings_a_late_token_back() -> None:
    late = Late(ids={0}, min_tokens=1)
    picker = Picker(GREEDY, prompt=(), vocab=4, bias={0: 100.0}, late=late)

    assert picked(2, picker) == [1, 0]


def test_biases_are_added_to_logits() -> None:
    assert picked(1, Picker(GREEDY, prompt=(), vocab=4, bias={3: 3.5, 0: -0.5})) == [3]
    assert picked(1, Picker(GREEDY, prompt=(), vocab=4, bias={0: -1.5})) == [1]


def test_penalties_see_the_logits_with_their_bias() -> None:
    # (3 - 3.5) * 4 = -2, where 3 / 4 would still be the highest but one.
    sampling = Sampling(temperature=0, repetition_penalty=4.0)
    picker = Picker(sampling, prompt=(0,), vocab=4, bias={0: -3.5, 1: -9, 2: -2.5, 3: -9})

    assert picked(1, picker) == [2]


def test_more_tokens_than_expected_are_all_remembered() -> None:
    sampling = Sampling(temperature=0, presence_penalty=1.0)
    flat = np.linspace(1, 0, 5000, dtype=np.float32)
    picker = Picker(sampling, prompt=(), vocab=len(flat))

    assert [picker.pick(flat.copy()) for _ in range(3000)] == list(range(3000))
