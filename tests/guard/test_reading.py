"""Samples against the marks of the levels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.memory import Memory, Stall
from edge_agent.guard.reading import Counts, Level, mark_bytes, read, room_bytes

TOTAL = 4_000_000_000
NOTHING = Counts()


def memory(
    share: float,
    *,
    swift: float | None = None,
    stall: Stall | None = None,
    file_bytes: int | None = None,
    total: int = TOTAL,
) -> Memory:
    """Return a sample with `share` of memory available, and `swift` beside mapped weights."""
    return Memory(
        available_bytes=int(share * total),
        swift_bytes=int((share if swift is None else swift) * total),
        total_bytes=total,
        bound="machine",
        stall=stall,
        file_bytes=file_bytes,
    )


def stalled(some: float, full: float = 0.0) -> Stall:
    return Stall(some_percent=some, full_percent=full, some_s=0.0)


@pytest.mark.parametrize(
    ("share", "entered", "kept"),
    [
        (0.50, Level.CALM, Level.CALM),
        (0.21, Level.CALM, Level.CALM),
        (0.19, Level.CALM, Level.SOFT),
        (0.14, Level.SOFT, Level.HARD),
        (0.11, Level.SOFT, Level.HARD),
        (0.09, Level.HARD, Level.CRITICAL),
        (0.04, Level.CRITICAL, Level.CRITICAL),
        (0.00, Level.CRITICAL, Level.CRITICAL),
    ],
)
def test_a_level_is_entered_at_one_mark_and_left_at_another(
    share: float, entered: Level, kept: Level
) -> None:
    reading = read(memory(share), NOTHING)
    assert (reading.entered, reading.kept) == (entered, kept)


def test_the_reason_has_the_numbers() -> None:
    assert read(memory(0.04), NOTHING).why == "160 MB available of 4000 MB (machine)"


def test_on_a_large_machine_the_marks_are_bytes() -> None:
    large = memory(0.04, total=64 << 30)
    assert large.available_bytes > 2 << 30
    assert read(large, NOTHING).entered is Level.CALM
    assert mark_bytes(large, 0.15) == mark_bytes(memory(1, total=8 << 30), 0.15)


def test_an_engine_that_is_to_come_back_must_find_what_it_needs_and_stay_calm() -> None:
    needed = int(0.6 * TOTAL)
    assert read(memory(0.5), NOTHING, load_bytes=needed).kept is Level.CRITICAL
    assert read(memory(0.5), NOTHING, load_bytes=needed).entered is Level.CALM
    assert read(memory(0.74), NOTHING, load_bytes=needed).kept is Level.CRITICAL
    assert read(memory(0.76), NOTHING, load_bytes=needed).kept is Level.CALM


@pytest.mark.parametrize(
    ("stall", "entered"),
    [
        (stalled(9), Level.CALM),
        (stalled(10), Level.SOFT),
        (stalled(90, 4), Level.SOFT),
        (stalled(90, 5), Level.HARD),
        (stalled(90, 20), Level.CRITICAL),
    ],
)
def test_stalls_raise_the_level_where_memory_is_short(stall: Stall, entered: Level) -> None:
    # Plenty could be taken, but only from mapped weights that are in use.
    reading = read(memory(0.6, swift=0.05, stall=stall), NOTHING)
    assert reading.entered is entered
    if entered:
        assert "waited for memory" in reading.why


def test_stalls_keep_a_level_until_they_are_well_over() -> None:
    assert read(memory(0.6, swift=0.05, stall=stalled(5)), NOTHING).kept is Level.SOFT
    assert read(memory(0.6, swift=0.05, stall=stalled(4.9)), NOTHING).kept is Level.CALM


def test_a_burst_of_stalls_is_seen_before_the_average_moves() -> None:
    short = memory(0.18, stall=stalled(0))
    assert read(short, Counts(stall_s=0.15)).entered is Level.HARD
    assert read(short, Counts(stall_s=0.1)).entered is Level.CALM


def test_neighbours_that_stall_by_themselves_are_not_helped_by_us() -> None:
    assert read(memory(0.6, stall=stalled(100, 100)), NOTHING).entered is Level.CALM


def test_an_engine_that_loads_waits_for_its_disk() -> None:
    stall = stalled(100, 100)
    loading = read(memory(0.17, stall=stall), Counts(stall_s=2), is_loading=True)
    assert loading.entered is Level.CALM
    assert read(memory(0.04, stall=stall), NOTHING, is_loading=True).entered is Level.CRITICAL


def test_meeting_the_soft_limit_counts_where_memory_is_short() -> None:
    assert read(memory(0.6), Counts(high_events=3)).entered is Level.CALM
    assert read(memory(0.17), Counts(high_events=3)).entered is Level.SOFT


@pytest.mark.parametrize(
    ("file_bytes", "megabytes", "entered"),
    [
        (200_000_000, 59, Level.CALM),
        (200_000_000, 61, Level.CRITICAL),
        (1_000, 19, Level.CALM),  # of a tiny cache much is read again in no time
        (2 << 30, 81, Level.CRITICAL),  # a slow card cannot read 30 % of a large one
        (None, 1000, Level.CALM),
    ],
)
def test_without_stalls_told_files_read_again_tell(
    file_bytes: int | None, megabytes: int, entered: Level
) -> None:
    happened = Counts(refault_bytes=megabytes * 1_000_000)
    assert read(memory(0.6, swift=0.1, file_bytes=file_bytes), happened).entered is entered


def test_where_stalls_are_told_files_read_again_are_no_pain_by_themselves() -> None:
    happened = Counts(refault_bytes=1e9)
    quick_disk = memory(0.6, swift=0.1, file_bytes=1 << 28, stall=stalled(1))
    assert read(quick_disk, happened).entered is Level.CALM


def test_what_may_be_taken_raises_no_level() -> None:
    tight = memory(0.5)
    after = memory((tight.available_bytes - room_bytes(tight)) / TOTAL)
    assert read(after, NOTHING).entered is Level.CALM
    assert room_bytes(memory(0.1)) == 0


@given(
    share=st.floats(0, 1),
    swift=st.floats(0, 1),
    some=st.floats(0, 100),
    full=st.floats(0, 100),
    burst_s=st.floats(0, 2),
    load_bytes=st.integers(0, TOTAL),
)
def test_no_level_is_left_where_it_would_be_entered(
    share: float, swift: float, some: float, full: float, burst_s: float, load_bytes: int
) -> None:
    seen = memory(share, swift=min(share, swift), stall=stalled(some, full))
    reading = read(seen, Counts(stall_s=burst_s), load_bytes=load_bytes)
    assert reading.kept >= reading.entered
