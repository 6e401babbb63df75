"""What an answer's drafts promise, and what it learns from how they end."""

from __future__ import annotations

import pytest

from edge_agent.engine.acceptance import Acceptance
from edge_agent.engine.draft import Drafter

COPIED = list(range(40))


def test_there_is_nothing_on_offer_without_a_repeat_or_without_room() -> None:
    assert Drafter(COPIED, Acceptance()).offer(7) == ()
    assert Drafter([*COPIED, *COPIED], Acceptance()).offer(0) == ()


def test_chances_fall_from_draft_to_draft_as_each_needs_those_before() -> None:
    shared = Acceptance()
    drafter = Drafter([*COPIED, 0, 1], shared)

    assert drafter.offer(3) == (2, 3, 4)
    first, second, third = drafter.chances()
    assert first == shared.chance(2)
    assert second == pytest.approx(first * shared.chance(3))
    assert third == pytest.approx(second * shared.chance(4))


def test_guesses_are_judged_by_what_came_whether_computed_or_not() -> None:
    drafter = Drafter([*COPIED, 0, 1], Acceptance())
    before = drafter.offer(7) and drafter.chances()
    for token in (2, 3, 4, 5, 6):
        drafter.learn(token)
        drafter.offer(7)

    assert drafter.chances()[0] > before[0]


def test_after_a_guess_that_fails_the_rest_of_it_is_not_judged() -> None:
    shared = Acceptance()
    drafter = Drafter([*COPIED, 0, 1], shared)
    drafter.offer(3)
    drafter.learn(99)  # and not 2
    untouched = shared.chance(3)
    drafter.learn(3)

    assert shared.chance(2) < Acceptance().chance(2)
    assert shared.chance(3) == untouched == Acceptance().chance(3)
    assert drafter.offer(1) == (4,)
