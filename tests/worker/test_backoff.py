"""Waits that grow, spread and end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.worker.backoff import wait_s

failures = st.integers(1, 10_000)
chances = st.floats(0, 1, exclude_max=True)


@given(failures, chances)
def test_a_wait_is_never_nothing_and_never_over_its_limit(count: int, chance: float) -> None:
    assert 0.25 <= wait_s(count, first_s=0.5, longest_s=60.0, chance=chance) <= 60.0


@given(st.integers(1, 6), chances)
def test_it_doubles_until_the_limit(count: int, chance: float) -> None:
    shorter = wait_s(count, first_s=0.5, longest_s=60.0, chance=chance)
    assert wait_s(count + 1, first_s=0.5, longest_s=60.0, chance=chance) == 2 * shorter


def test_gateways_do_not_wait_alike() -> None:
    waits = {wait_s(3, first_s=0.5, longest_s=60.0, chance=chance / 10) for chance in range(10)}
    assert (min(waits), len(waits)) == (1.0, 10)
