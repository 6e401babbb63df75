"""The breaker opens in time, tries carefully, and closes when the peer is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.serving.peers.breaker import (
    FIRST_HOLD_S,
    LONGEST_HOLD_S,
    LONGEST_REST_S,
    MOST_OUTCOMES,
    OPEN_AFTER,
    Breaker,
    Fault,
    Standing,
    failed,
    probed,
    rested,
    standing,
    succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def after_failures(count: int, fault: Fault = Fault.WRONG, now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(count):
        breaker = failed(breaker, fault, now_s)
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    assert standing(after_failures(OPEN_AFTER - 1), 0) is Standing.CLOSED
    assert standing(after_failures(OPEN_AFTER), 0) is Standing.OPEN


def test_a_good_answer_in_between_begins_anew() -> None:
    breaker = succeeded(after_failures(4), 0)
    for _ in range(4):
        breaker = failed(breaker, Fault.WRONG, 40)
    assert standing(breaker, 40) is Standing.CLOSED


def test_half_of_the_last_ones_opens_it_too() -> None:
    breaker = Breaker()
    for second in range(5):
        assert standing(breaker, second) is Standing.CLOSED
        breaker = failed(succeeded(breaker, second), Fault.WRONG, second)
    assert standing(breaker, 5) is Standing.OPEN


def test_what_was_long_ago_does_not_count() -> None:
    breaker = Breaker()
    for round_ in range(20):
        breaker = failed(succeeded(breaker, round_ * 10), Fault.WRONG, round_ * 10)
    assert standing(breaker, 200) is Standing.CLOSED


def test_a_hold_is_over_and_one_may_try() -> None:
    breaker = after_failures(OPEN_AFTER)
    assert standing(breaker, FIRST_HOLD_S - 0.1) is Standing.OPEN
    assert standing(breaker, FIRST_HOLD_S) is Standing.HALF_OPEN
    assert standing(succeeded(breaker, FIRST_HOLD_S), FIRST_HOLD_S) is Standing.CLOSED


def test_failed_trials_make_the_hold_longer_up_to_a_limit() -> None:
    breaker, now_s, holds = after_failures(OPEN_AFTER), 0.0, []
    for _ in range(8):
        assert breaker.open_until_s is not None
        holds.append(breaker.open_until_s - now_s)
        now_s = breaker.open_until_s
        breaker = failed(breaker, Fault.WRONG, now_s)
    assert holds == [30, 60, 120, 240, *[LONGEST_HOLD_S] * 4]


def test_requests_that_were_under_way_do_not_make_it_longer() -> None:
    breaker = after_failures(OPEN_AFTER)
    assert failed(breaker, Fault.WRONG, 1).open_until_s == breaker.open_until_s


def test_a_peer_that_was_away_is_back_when_a_probe_reaches_it() -> None:
    breaker = probed(after_failures(OPEN_AFTER, Fault.AWAY), 5, is_well=True)
    assert standing(breaker, 5) is Standing.CLOSED


def test_a_peer_that_answers_badly_is_not_well_because_it_is_there() -> None:
    breaker = probed(after_failures(OPEN_AFTER, Fault.WRONG), 5, is_well=True)
    assert standing(breaker, 5) is Standing.OPEN


def test_probes_alone_open_it() -> None:
    breaker = Breaker()
    for second in range(OPEN_AFTER):
        breaker = probed(breaker, second * 10, is_well=False)
    assert standing(breaker, 50) is Standing.OPEN


def test_a_frozen_peer_is_back_with_the_first_probe_after() -> None:
    """Requests that got no answer opened it; a probe since then found it away."""
    breaker = after_failures(OPEN_AFTER, Fault.WRONG)
    breaker = probed(breaker, 10, is_well=False)
    assert standing(probed(breaker, 20, is_well=True), 20) is Standing.CLOSED


def test_nobody_is_sent_to_one_that_probes_cannot_reach() -> None:
    breaker = probed(after_failures(OPEN_AFTER), FIRST_HOLD_S + 1, is_well=False)
    assert standing(breaker, FIRST_HOLD_S + 2) is Standing.OPEN


@pytest.mark.parametrize(
    ("asked_s", "chance", "rest_s"),
    [(None, 0.0, 2), (None, 0.5, 6), (7.0, 0.5, 7), (1e9, 0.5, LONGEST_REST_S), (0.0, 0.5, 0)],
)
def test_a_busy_peer_is_left_alone_for_a_while(
    asked_s: float | None, chance: float, rest_s: float
) -> None:
    breaker = rested(Breaker(), 100, asked_s=asked_s, chance=chance)
    if rest_s:
        assert standing(breaker, 100 + rest_s - 0.01) is Standing.RESTING
    assert standing(breaker, 100 + rest_s) is Standing.CLOSED


STEPS: dict[str, Callable[[Breaker, float], Breaker]] = {
    "good": succeeded,
    "away": lambda breaker, now_s: failed(breaker, Fault.AWAY, now_s),
    "wrong": lambda breaker, now_s: failed(breaker, Fault.WRONG, now_s),
    "busy": lambda breaker, now_s: rested(breaker, now_s, asked_s=None, chance=0.5),
    "probe": lambda breaker, now_s: probed(breaker, now_s, is_well=True),
    "no probe": lambda breaker, now_s: probed(breaker, now_s, is_well=False),
}
EVENTS = st.tuples(st.sampled_from(sorted(STEPS)), st.floats(0, 400, allow_nan=False))


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_it_is_bounded_and_comes_back(events: list[tuple[str, float]]) -> None:
    breaker, now_s = Breaker(), 0.0
    for name, passed_s in events:
        now_s += passed_s
        breaker = STEPS[name](breaker, now_s)
        assert len(breaker.outcomes) <= MOST_OUTCOMES
        if name == "good":
            assert standing(breaker, now_s) is Standing.CLOSED
    late_s = now_s + LONGEST_HOLD_S + LONGEST_REST_S
    assert standing(breaker, late_s) in {Standing.CLOSED, Standing.HALF_OPEN}
    assert standing(succeeded(breaker, late_s), late_s) is Standing.CLOSED


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0, 10))
def test_a_dead_peer_gets_five_requests_and_then_probes(requests: int, every_s: float) -> None:
    """Probes come every 10 s and fail; requests come as they like."""
    breaker, asked, next_probe_s = Breaker(), 0, 10.0
    for number in range(requests):
        now_s = number * every_s
        while next_probe_s <= now_s:
            breaker = probed(breaker, next_probe_s, is_well=False)
            next_probe_s += 10
        if standing(breaker, now_s) in {Standing.CLOSED, Standing.HALF_OPEN}:
            asked += 1
            breaker = failed(breaker, Fault.AWAY, now_s)
    assert asked <= OPEN_AFTER
