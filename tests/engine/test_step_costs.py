"""What steps are expected to cost, after some were seen."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.step_costs import StepCosts


def taught(costs: dict[int, float], *, rounds: int, noise: float = 0.0, seed: int = 0) -> StepCosts:
    """Return what is known after `rounds` steps of each number of tokens in turn."""
    rng = random.Random(seed)  # noqa: S311  # the same noise in every run
    known = StepCosts()
    for _ in range(rounds):
        for tokens, seconds in costs.items():
            known.note(tokens, seconds * (1 + noise * rng.uniform(-1, 1)))
    return known


def test_nothing_is_known_before_the_first_step() -> None:
    assert StepCosts().seconds(4) == 0


def test_one_step_sets_the_scale_of_all() -> None:
    known = taught({1: 0.06}, rounds=1)

    assert known.seconds(1) == pytest.approx(0.06)
    assert 0.06 < known.seconds(2) < known.seconds(8) < known.seconds(128)


# Two real machines: 8-bit activations, where a second token is nearly free, and exact ones.
CHEAP = {1: 0.0060, 2: 0.0066, 4: 0.0090, 8: 0.0140, 128: 0.0900}
DEAR = {1: 0.0060, 2: 0.0130, 4: 0.0155, 8: 0.0195, 128: 0.1000}


@pytest.mark.parametrize("costs", [CHEAP, DEAR])
def test_costs_are_learned_from_a_few_noisy_steps(costs: dict[int, float]) -> None:
    known = taught(costs, rounds=12, noise=0.15)

    for tokens, seconds in costs.items():
        assert known.seconds(tokens) == pytest.approx(seconds, rel=0.2)


def test_a_slower_machine_is_followed_in_all_sizes_by_steps_of_one() -> None:
    known = taught(DEAR, rounds=20)
    for _ in range(60):
        known.note(1, DEAR[1] * 2)

    assert known.seconds(8) == pytest.approx(DEAR[8] * 2, rel=0.1)


def test_a_single_hiccup_changes_little() -> None:
    known = taught(CHEAP, rounds=20)
    before = known.seconds(1), known.seconds(4)
    known.note(4, CHEAP[4] * 50)

    assert known.seconds(1) < before[0] * 1.1
    assert known.seconds(4) < before[1] * 1.15


def test_a_number_of_tokens_that_was_disturbed_costs_no_more_than_a_larger_one() -> None:
    known = taught(CHEAP, rounds=20)
    for _ in range(20):
        known.note(3, CHEAP[8] * 5)

    assert known.seconds(3) <= known.seconds(4)


def test_a_clock_that_stands_still_teaches_nothing() -> None:
    known = taught({1: 0.0, 4: 0.0}, rounds=3)

    assert known.seconds(4) == 0


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(1e-6, 1e3)), max_size=60))
def test_whatever_was_seen_costs_are_positive_and_finite(steps: list[tuple[int, float]]) -> None:
    known = StepCosts()
    for tokens, seconds in steps:
        known.note(tokens, seconds)

    for tokens in (1, 2, 3, 9, 100, 1024, 4000):
        assert (0 < known.seconds(tokens) < 1e12) == bool(steps)
