"""Medians, spreads and ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.results import Key, Run, Series, ratio, series


def run(number: int, contestant: str, **figures: float) -> Run:
    return Run(
        section="decode",
        lap="decode at 128",
        contestant=contestant,
        round=number,
        load_1m=0.0,
        seconds=1.0,
        others_cpu_s=0.0,
        figures=figures,
    )


def test_figures_are_gathered_by_lap_contestant_and_name() -> None:
    runs = [run(1, "a", tok_s=10), run(1, "b", tok_s=5), run(2, "a", tok_s=14), run(3, "a")]
    found = series(runs)
    assert list(found) == [
        Key("decode at 128", "a", "tok_s"),
        Key("decode at 128", "b", "tok_s"),
    ]
    ours = found[Key("decode at 128", "a", "tok_s")]
    assert (ours.median, ours.lowest, ours.highest) == (12, 10, 14)


def test_the_spread_of_a_ratio_is_that_of_rounds_not_of_extremes() -> None:
    # The machine was twice as fast in the second round, for both.
    found = ratio(Series({1: 10.0, 2: 20.0}), Series({1: 8.0, 2: 16.0}))
    assert found == (1.25, 1.25, 1.25)


def test_without_a_common_round_the_extremes_are_the_spread() -> None:
    found = ratio(Series({1: 10.0, 2: 20.0}), Series({3: 5.0, 4: 10.0}))
    assert (found.lowest, found.highest) == (1.0, 4.0)


SPEEDS = st.dictionaries(st.integers(1, 5), st.floats(0.1, 1e3), min_size=1)


@given(SPEEDS, st.floats(0.1, 10))
def test_who_is_faster_by_a_factor_in_each_round_is_so_in_all(
    speeds: dict[int, float], factor: float
) -> None:
    faster = Series({number: speed * factor for number, speed in speeds.items()})
    assert ratio(faster, Series(speeds)) == pytest.approx((factor, factor, factor))
