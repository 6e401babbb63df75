"""What will be available in a moment, from the last three looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.trend import NUM_LOOKS, Look, Trend


def trend(*looks: tuple[float, int]) -> Trend:
    seen = Trend()
    for now_s, available_bytes in looks:
        seen = seen.seen(available_bytes, now_s)
    return seen


def test_one_look_is_no_trend() -> None:
    seen = trend((1.0, 500))
    assert (seen.in_bytes(1.0), seen.surely_in_bytes(1.0)) == (500, 500)


def test_a_fall_between_two_looks_may_go_on_and_is_not_sure_to() -> None:
    seen = trend((0.0, 500), (0.5, 450))
    assert (seen.in_bytes(1.0), seen.surely_in_bytes(1.0)) == (350, 450)


def test_a_fall_in_two_stretches_goes_on_at_the_slower_pace() -> None:
    seen = trend((0.0, 1000), (1.0, 700), (2.0, 600))
    assert seen.surely_in_bytes(2.0) == 400
    assert trend((0.0, 1000), (1.0, 900), (2.0, 600)).surely_in_bytes(2.0) == 400


def test_a_leap_that_is_over_is_no_trend() -> None:
    seen = trend((0.0, 1000), (1.0, 300), (1.1, 300))
    assert (seen.in_bytes(1.0), seen.surely_in_bytes(1.0)) == (300, 300)


def test_memory_that_comes_back_is_not_counted_on() -> None:
    assert trend((0.0, 300), (1.0, 400), (2.0, 500)).in_bytes(1.0) == 500


def test_there_is_never_less_than_nothing() -> None:
    assert trend((0.0, 300), (1.0, 200), (2.0, 100)).surely_in_bytes(60.0) == 0


def test_two_looks_in_one_moment_are_no_stretch() -> None:
    assert trend((0.0, 300), (0.0, 200)).in_bytes(1.0) == 200


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 1 << 33)), min_size=1, max_size=8))
def test_only_the_last_looks_count_and_what_is_sure_is_no_worse(
    stretches: list[tuple[float, int]],
) -> None:
    now_s, looks = 0.0, []
    for gap_s, available_bytes in stretches:
        now_s += gap_s
        looks.append((now_s, available_bytes))
    seen = trend(*looks)
    assert seen.looks == tuple(Look(*look) for look in looks[-NUM_LOOKS:])
    assert 0 <= seen.in_bytes(1.0) <= seen.surely_in_bytes(1.0) <= looks[-1][1]
