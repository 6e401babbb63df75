"""How the chance of a guess is learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.acceptance import Acceptance


def test_more_agreement_is_more_chance_at_first() -> None:
    chances = [Acceptance().chance(n) for n in (1, 2, 3, 4, 6, 9, 16)]

    assert chances == sorted(chances)
    assert 0 < chances[0] < chances[-1] < 1


def test_an_answer_learns_within_some_guesses_what_copies_and_what_does_not() -> None:
    copying, telling = Acceptance(Acceptance()), Acceptance(Acceptance())
    for _ in range(12):
        copying.note(2, came_true=True)
        telling.note(2, came_true=False)

    assert copying.chance(2) > 0.8
    assert telling.chance(2) < 0.15


def test_what_was_long_ago_is_forgotten() -> None:
    acceptance = Acceptance(Acceptance())
    for came_true in [False] * 200 + [True] * 40:
        acceptance.note(4, came_true=came_true)

    assert acceptance.chance(4) > 0.75


def test_answers_begin_with_what_others_learned_each_agreement_apart() -> None:
    shared = Acceptance()
    other = Acceptance(shared)
    for _ in range(100):
        other.note(3, came_true=False)

    assert Acceptance(shared).chance(3) < 0.1
    assert Acceptance(shared).chance(6) == pytest.approx(Acceptance().chance(6))


@given(st.lists(st.tuples(st.integers(1, 16), st.booleans())))
def test_chances_stay_chances(guesses: list[tuple[int, bool]]) -> None:
    acceptance = Acceptance(Acceptance())
    for match_tokens, came_true in guesses:
        acceptance.note(match_tokens, came_true=came_true)

    assert all(0 < acceptance.chance(n) < 1 for n in range(1, 17))
