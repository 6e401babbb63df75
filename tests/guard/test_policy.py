"""Levels over time: climbed at once, left slowly, never in a flutter."""

from __future__ import annotations

import itertools
from dataclasses import replace as replace_state
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.guard.memory import Memory, Stall
from edge_agent.guard.policy import (
    CLEAN_S,
    LONGEST_RELOAD_WAIT_S,
    REPEAT_S,
    RISE_GAP_S,
    SETTLE_S,
    Level,
    State,
    hold_s,
    may_begin,
    step,
    struck,
    wait_s,
)
from edge_agent.guard.reading import LEAVE_SHARE, mark_bytes
from edge_agent.guard.trend import Trend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOTAL = 4_000_000_000
PLENTY = 0.5


def memory(share: float) -> Memory:
    available = int(share * TOTAL)
    return Memory(
        available_bytes=available, swift_bytes=available, total_bytes=TOTAL, bound="machine"
    )


def after(state: State, share: float, *, start_s: float, for_s: float) -> State:
    """Return the state after samples with `share` available, one a second, over `for_s`."""
    for second in range(int(for_s) + 1):
        state = step(state, memory(share), start_s + second)
    return state


def levels(
    samples: Iterable[tuple[float, float]], *, load_bytes: int = 0
) -> list[tuple[float, Level]]:
    """Return (time, level) of every change that `samples`, of (time, share), bring."""
    state, changes = State(), []
    for now_s, share in samples:
        moved = step(state, memory(share), now_s, load_bytes=load_bytes)
        if moved.level is not state.level:
            changes.append((now_s, moved.level))
        state = moved
    return changes


def most_within(changes: list[tuple[float, Level]], *, window_s: float) -> int:
    """Return the most changes in any window."""
    times = [now_s for now_s, _ in changes]
    return max((sum(t <= u < t + window_s for u in times) for t in times), default=0)


@pytest.mark.parametrize(
    ("share", "level"), [(0.14, Level.SOFT), (0.09, Level.HARD), (0.04, Level.CRITICAL)]
)
def test_every_level_is_entered_at_once_and_left_when_it_has_settled(
    share: float, level: Level
) -> None:
    state = step(State(), memory(share), 0.0)
    assert state.level is level
    state = after(state, PLENTY, start_s=10, for_s=SETTLE_S - 11)
    assert state.level is level
    assert step(state, memory(PLENTY), SETTLE_S).level is Level.CALM


@pytest.mark.parametrize(
    ("share", "level"), [(0.14, Level.SOFT), (0.09, Level.HARD), (0.04, Level.CRITICAL)]
)
def test_a_level_is_not_left_before_its_clean_time(share: float, level: Level) -> None:
    clean_s = CLEAN_S[level]
    state = after(State(), share, start_s=0, for_s=SETTLE_S)
    state = after(state, PLENTY, start_s=SETTLE_S + 1, for_s=clean_s - 1)
    assert state.level is level
    assert step(state, memory(PLENTY), SETTLE_S + 1 + clean_s).level is Level.CALM


def test_between_the_marks_a_level_stays() -> None:
    state = step(State(), memory(0.14), 0.0)
    assert after(state, 0.18, start_s=1, for_s=3600).level is Level.SOFT
    assert after(State(), 0.18, start_s=1, for_s=3600).level is Level.CALM


def test_a_sample_that_is_not_clean_begins_the_clean_time_anew() -> None:
    state = after(State(), 0.14, start_s=0, for_s=SETTLE_S)
    state = after(state, PLENTY, start_s=601, for_s=29)
    state = step(state, memory(0.19), 630.5)
    assert after(state, PLENTY, start_s=631, for_s=29).level is Level.SOFT
    assert after(state, PLENTY, start_s=631, for_s=30).level is Level.CALM


def test_a_level_falls_to_the_highest_that_was_to_be_kept_lately() -> None:
    state = after(State(), 0.09, start_s=0, for_s=560)
    state = after(state, PLENTY, start_s=561, for_s=40)
    state = step(state, memory(0.17), 602)
    assert after(state, PLENTY, start_s=603, for_s=17).level is Level.HARD
    state = after(state, PLENTY, start_s=603, for_s=18)
    assert state.level is Level.SOFT
    assert after(state, PLENTY, start_s=622, for_s=598).level is Level.SOFT
    assert after(state, PLENTY, start_s=622, for_s=599).level is Level.CALM


@pytest.mark.parametrize(("share", "clean_s"), [(0.14, 30), (0.09, 60)])
def test_new_work_waits_for_the_clean_time_and_not_for_the_level(
    share: float, clean_s: int
) -> None:
    state = step(State(), memory(share), 0.0)
    assert not may_begin(state, 0.0)
    state = after(state, PLENTY, start_s=1, for_s=clean_s)
    assert not may_begin(state, clean_s + 0.9)
    assert may_begin(state, clean_s + 1)
    assert state.level > Level.CALM
    assert not may_begin(step(state, memory(0.19), clean_s + 1), clean_s + 1)


def test_nothing_begins_while_the_engine_is_gone() -> None:
    state = after(step(State(), memory(0.04), 0.0), PLENTY, start_s=1, for_s=598)
    assert state.level is Level.CRITICAL
    assert not may_begin(state, 599.0)
    assert may_begin(after(state, PLENTY, start_s=600, for_s=0), 600.0)


def test_levels_rise_one_after_the_other_with_time_between() -> None:
    state = step(State(), memory(0.14), 0.0)
    assert step(state, memory(0.04), 0.9).level is Level.SOFT
    assert step(state, memory(0.04), 1.0).level is Level.CRITICAL


def test_memory_that_falls_fast_is_met_by_the_level_it_will_reach() -> None:
    """Half a percent in each twentieth of a second: nothing would be left after the gap."""
    state, now_s, share = State(), 0.0, 0.20
    while state.level is Level.CALM:
        now_s, share = now_s + 0.05, share - 0.008
        state = step(state, memory(share), now_s)
    assert state.level is Level.CRITICAL
    assert share > 0.14
    assert "MB in 1 s at this pace" in state.reason


def test_a_slow_fall_climbs_step_by_step() -> None:
    shares = [0.20 - 0.0005 * number for number in range(400)]
    changes = levels((number / 10, share) for number, share in enumerate(shares))
    assert [level for _, level in changes] == [Level.SOFT, Level.HARD, Level.CRITICAL]


def test_a_leap_is_no_fall_that_goes_on() -> None:
    state = step(step(State(), memory(0.5), 0.0), memory(0.14), 1.0)
    assert state.level is Level.CALM  # it looks again before it tells
    assert step(state, memory(0.14), 1.1).level is Level.SOFT


def test_doubt_lasts_for_one_look() -> None:
    state = step(step(State(), memory(0.5), 0.0), memory(0.14), 1.0)
    assert step(state, memory(0.06), 1.1).level is Level.CRITICAL
    assert step(state, memory(0.139), 1.1).level is Level.SOFT


def test_what_a_load_takes_is_not_thought_to_go_on() -> None:
    state, shares = State(), [0.5, 0.4, 0.3, 0.2, 0.14]
    for number, share in enumerate(shares):
        state = step(state, memory(share), number / 10, is_loading=True)
    assert state.level is Level.SOFT


def test_hard_asks_for_memory_again_each_second_while_it_is_short() -> None:
    state, asked = State(), set()
    for tenth in range(45):
        state = step(state, memory(0.09 if tenth < 30 else 0.11), tenth / 10)
        asked.add(state.short_s)
    assert state.level is Level.HARD
    assert asked == {0.0, 1.0, 2.0}


def test_soft_asks_for_nothing_that_runs() -> None:
    assert after(State(), 0.14, start_s=0, for_s=10).short_s is None


def test_the_model_comes_back_only_where_it_fits() -> None:
    needed = int(0.6 * TOTAL)
    state = step(State(), memory(0.04), 0.0)
    for second in range(1, 1000):
        state = step(state, memory(0.6), second, load_bytes=needed)
    assert state.level is Level.CRITICAL
    for second in range(1000, 1121):
        state = step(state, memory(0.8), second, load_bytes=needed)
    assert state.level is Level.CALM


def test_a_loaded_model_needs_no_more_room_to_leave_a_lower_level() -> None:
    state = step(State(), memory(0.14), 0.0)
    for second in range(1, 601):
        state = step(state, memory(0.3), second, load_bytes=TOTAL)
    assert state.level is Level.CALM


def test_every_reload_in_vain_doubles_the_wait_for_the_next_up_to_an_hour() -> None:
    state, now_s, holds = State(), 0.0, []
    for _ in range(9):
        state = step(state, memory(0.04), now_s)
        holds.append(hold_s(state))
        state = after(state, 0.04, start_s=now_s + 1, for_s=SETTLE_S)
        now_s += 1 + SETTLE_S
        state = step(state, memory(PLENTY), now_s + 1)
        assert step(state, memory(PLENTY), now_s + holds[-1]).level is Level.CRITICAL
        now_s += 1 + holds[-1]
        state = step(state, memory(PLENTY), now_s)
        assert state.level is Level.CALM
        now_s += REPEAT_S + 1  # not so soon that it is the same trouble again
        state = step(state, memory(PLENTY), now_s)
    assert holds == [120, 240, 480, 960, 1920, *[LONGEST_RELOAD_WAIT_S] * 4]


def test_an_hour_of_peace_forgives() -> None:
    state = State()
    for number in range(3):
        state = step(state, memory(0.04), number * 5000.0)
        state = after(state, PLENTY, start_s=number * 5000.0 + 1, for_s=900)
    assert state.level is Level.CALM
    assert state.criticals == 1


def test_a_killed_engine_is_critical_at_once_and_each_time_counts() -> None:
    state = struck(State(), 0.0)
    assert state.level is Level.CRITICAL
    assert "killed" in state.reason
    again = struck(state, 5.0)
    assert again.level is Level.CRITICAL
    assert hold_s(again) == 2 * hold_s(state)


def test_a_kill_that_the_guard_saw_coming_counts_once() -> None:
    state = step(State(), memory(0.04), 0.0)
    told = struck(state, 0.3)
    assert "killed" in told.reason
    assert hold_s(told) == hold_s(state)


def test_a_refused_client_is_told_what_is_left_of_the_clean_time() -> None:
    state = step(State(), memory(0.14), 0.0)
    assert wait_s(state, 5.0) == 30.0
    state = after(state, PLENTY, start_s=10, for_s=12)
    assert wait_s(state, 22.0) == 18.0
    assert wait_s(State(), 0.0) == 0.0
    # Of an engine that was ended, until it may come back.
    state = step(State(), memory(0.04), 0.0)
    assert wait_s(state, 0.0) == SETTLE_S
    assert wait_s(after(state, 0.04, start_s=1, for_s=590), 591.0) == CLEAN_S[Level.CRITICAL]


def test_a_long_pause_between_samples_is_no_burst() -> None:
    def seen(some_s: float) -> Memory:
        stall = Stall(some_percent=0.0, full_percent=0.0, some_s=some_s)
        return replace(memory(0.18), stall=stall)

    state = step(State(), seen(0.0), 0.0)
    # A tenth of a second of stalls within a minute, and then within a second.
    state = step(state, seen(0.5), 60.0)
    assert state.level is Level.CALM
    assert step(state, seen(0.7), 61.0).level is Level.HARD


# Shares are taken in steps that hit all marks and both sides of them.
SHARES = st.sampled_from([0.0, 0.04, 0.05, 0.07, 0.1, 0.12, 0.15, 0.18, 0.2, 0.21, 0.5, 1.0])
GAPS = st.floats(0.05, 400)
STREAMS = st.lists(st.tuples(GAPS, SHARES), max_size=60)


def timed(stream: list[tuple[float, float]]) -> list[tuple[float, float]]:
    now_s, samples = 0.0, []
    for gap_s, share in stream:
        now_s += gap_s
        samples.append((now_s, share))
    return samples


@given(STREAMS)
def test_no_two_rises_come_within_a_second(stream: list[tuple[float, float]]) -> None:
    changes = [(-1e9, Level.CALM), *levels(timed(stream))]
    rises = [now_s for (_, before), (now_s, level) in itertools.pairwise(changes) if level > before]
    assert all(b - a >= RISE_GAP_S for a, b in itertools.pairwise(rises))


@given(STREAMS, SHARES, SHARES)
def test_less_memory_never_means_a_lower_level(
    stream: list[tuple[float, float]], one: float, other: float
) -> None:
    state = State()
    samples = timed(stream)
    for now_s, share in samples:
        state = step(state, memory(share), now_s, load_bytes=TOTAL // 3)
    # How fast it fell is another question: who sees a fall looks once more.
    state = replace_state(state, trend=Trend())
    now_s = (samples[-1][0] if samples else 0.0) + 35.0
    less, more = sorted((one, other))
    low = step(state, memory(less), now_s, load_bytes=TOTAL // 3).level
    assert low >= step(state, memory(more), now_s, load_bytes=TOTAL // 3).level


@given(STREAMS)
def test_from_everywhere_peace_leads_to_calm(stream: list[tuple[float, float]]) -> None:
    state = State()
    samples = timed(stream)
    for now_s, share in samples:
        state = step(state, memory(share), now_s)
    now_s = samples[-1][0] if samples else 0.0
    for minute in range(1, 200):
        state = step(state, memory(PLENTY), now_s + 60 * minute)
    assert state.level is Level.CALM


def wave_samples(
    high: float, low: float, *, up_s: float, down_s: float, edge_s: float, phase_s: float
) -> Iterator[tuple[float, float]]:
    """Yield (time, share) of a wave, looked at as the watch does: more often at its edges."""
    period_s, now_s = up_s + down_s, 0.0
    while now_s < 2 * period_s + 1300:
        at_s = (now_s + phase_s) % period_s
        taken = min(1.0, (at_s - up_s) / edge_s) if at_s >= up_s else max(0.0, 1 - at_s / edge_s)
        yield now_s, high - (high - low) * taken
        is_edge = -0.5 < at_s - up_s < 1.0 or at_s < 1.0 or period_s - at_s < 0.5
        now_s += 0.1 if is_edge else 1.0 if min(up_s, down_s) < 20 else 5.0


@settings(max_examples=40, deadline=None)
@given(
    shares=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    up_s=st.floats(2, 900),
    down_s=st.floats(2, 900),
    edge_s=st.sampled_from([0.001, 0.2, 0.5]),
    phase=st.floats(0, 1),
)
def test_a_square_wave_moves_the_level_twice_in_ten_minutes_at_most(
    shares: tuple[float, float], up_s: float, down_s: float, edge_s: float, phase: float
) -> None:
    low, high = sorted(shares)
    phase_s = phase * (up_s + down_s)
    wave = wave_samples(high, low, up_s=up_s, down_s=down_s, edge_s=edge_s, phase_s=phase_s)
    assert most_within(levels(wave), window_s=600) <= 2


@pytest.mark.parametrize("period_s", [62, 130, 590, 1190])
@pytest.mark.parametrize("low", [0.02, 0.08, 0.12])
def test_a_slow_wave_is_two_changes_in_its_first_ten_minutes_too(
    period_s: float, low: float
) -> None:
    half_s = period_s / 2
    for phase_s in (0.0, half_s / 2, 1.5 * half_s):
        wave = wave_samples(0.5, low, up_s=half_s, down_s=half_s, edge_s=0.001, phase_s=phase_s)
        assert most_within(levels(wave), window_s=600) <= 2


@pytest.mark.parametrize("period_s", [2, 20, 58])
@pytest.mark.parametrize("high_bytes", range(300_000_000, 1_500_000_000, 200_000_000))
def test_a_quick_wave_of_half_a_gigabyte_is_two_changes_from_its_beginning(
    period_s: int, high_bytes: int
) -> None:
    half_s, low_bytes = period_s / 2, max(0, high_bytes - 500_000_000)
    # Read often the wave has slopes: a program takes half a gigabyte in half a second.
    wave = wave_samples(
        high_bytes / TOTAL, low_bytes / TOTAL, up_s=half_s, down_s=half_s, edge_s=0.5, phase_s=0.0
    )
    assert len(levels(wave)) <= 2


def test_the_gap_between_entering_and_leaving_is_wider_than_a_request() -> None:
    gap = mark_bytes(memory(1), LEAVE_SHARE[Level.SOFT]) - mark_bytes(memory(1), 0.15)
    assert gap >= 200_000_000
