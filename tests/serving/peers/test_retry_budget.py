"""Retries stay a tenth of requests, and a quiet house has three a minute."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.serving.peers.retry_budget import RetryBudget


def test_a_quiet_house_may_retry_three_times_a_minute() -> None:
    budget = RetryBudget()
    assert [budget.take(second) for second in (0, 1, 2, 3, 61)] == [True, True, True, False, True]


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(st.integers(30, 2000), st.floats(0, 0.029))
def test_a_storm_makes_a_tenth_more_calls_at_most(requests: int, every_s: float) -> None:
    budget, retries = RetryBudget(), 0
    for number in range(requests):
        budget.note_request(number * every_s)
        for _ in range(3):
            retries += budget.take(number * every_s)
    # All within one window: three at first, a tenth later.
    assert retries == max(3, requests // 10)


def test_what_is_a_minute_ago_is_forgotten() -> None:
    budget = RetryBudget()
    for second in range(10_000):
        budget.note_request(second)
        budget.take(second)
    assert len(budget._requests) <= 60
    assert len(budget._retries) <= 60
