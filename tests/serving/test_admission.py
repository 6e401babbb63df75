"""Who may enter, and when the others are told to come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.admission import (
    LEAST_RETRY_S,
    LONGEST_RETRY_S,
    Load,
    Verdict,
    admit,
    next_pace_s,
    retry_after_s,
)

loads = st.builds(
    Load,
    open_requests=st.integers(0, 200),
    slots=st.integers(1, 64),
    queue_requests=st.integers(1, 100),
    is_draining=st.booleans(),
)
paces = st.none() | st.floats(0, 1e6)


@given(loads)
def test_nobody_enters_a_house_that_is_closing(load: Load) -> None:
    assert (admit(load) is Verdict.DRAINING) == load.is_draining


@given(loads)
def test_the_house_never_holds_more_than_slots_and_queue(load: Load) -> None:
    if admit(load) is Verdict.ENTER:
        assert load.open_requests + 1 <= load.slots + load.queue_requests


@given(loads)
def test_a_place_that_is_free_is_given(load: Load) -> None:
    if not load.is_draining and load.open_requests < load.slots + load.queue_requests:
        assert admit(load) is Verdict.ENTER


@given(loads, paces)
def test_the_time_to_come_back_is_within_its_bounds(load: Load, pace_s: float | None) -> None:
    assert LEAST_RETRY_S <= retry_after_s(load, pace_s) <= LONGEST_RETRY_S


def test_a_slower_house_says_a_later_time() -> None:
    load = Load(open_requests=36, slots=4, queue_requests=32, is_draining=False)
    assert retry_after_s(load, 2.0) == 8.0  # 16 of 32 waiting, 4 at a time, 2 s each
    assert retry_after_s(load, 4.0) == 16.0


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=50))
def test_the_pace_stays_among_what_was_measured(answers_s: list[float]) -> None:
    pace_s = None
    for answer_s in answers_s:
        pace_s = next_pace_s(pace_s, answer_s)
    assert pace_s is not None
    assert min(answers_s) * 0.999 <= pace_s <= max(answers_s) * 1.001
