"""What counters bring in short windows."""

from __future__ import annotations

import pytest

from edge_agent.guard.memory import Memory, Stall
from edge_agent.guard.reading import WINDOW_S
from edge_agent.guard.window import Window, happened, moved


def seen(*, stall_s: float = 0.0, refault_bytes: int = 0, high_events: int = 0) -> Memory:
    return Memory(
        available_bytes=1000,
        swift_bytes=1000,
        total_bytes=4000,
        bound="machine",
        stall=Stall(some_percent=0.0, full_percent=0.0, some_s=stall_s),
        refault_bytes=refault_bytes,
        high_events=high_events,
    )


def first(memory: Memory) -> Window:
    return moved(None, memory, 100.0)


def test_what_was_before_the_first_look_counts_for_nothing() -> None:
    memory = seen(stall_s=50.0, refault_bytes=1 << 30, high_events=7)
    counts = happened(first(memory), memory, 100.0)
    assert (counts.stall_s, counts.refault_bytes, counts.high_events) == (0.0, 0.0, 0)


def test_a_window_stays_until_it_is_full_and_the_next_remembers_it() -> None:
    window = first(seen())
    assert moved(window, seen(stall_s=0.1), 100.0 + WINDOW_S / 2) is window
    following = moved(window, seen(stall_s=0.3), 100.0 + WINDOW_S)
    assert following.before.stall_s == pytest.approx(0.3)
    assert happened(following, seen(stall_s=0.35), 102.1).stall_s == pytest.approx(0.3)
    assert happened(following, seen(stall_s=0.8), 102.1).stall_s == pytest.approx(0.5)


def test_of_a_pause_between_looks_only_a_windows_share_counts() -> None:
    after = seen(stall_s=6.0, refault_bytes=600, high_events=2)
    counts = happened(first(seen()), after, 100.0 + 30 * WINDOW_S)
    assert counts.stall_s == pytest.approx(0.2)
    assert counts.refault_bytes == pytest.approx(20)
    assert counts.high_events == 2


def test_a_kernel_that_tells_nothing_brings_nothing() -> None:
    blind = Memory(available_bytes=1, swift_bytes=1, total_bytes=4, bound="machine")
    counts = happened(first(blind), blind, 101.0)
    assert (counts.stall_s, counts.refault_bytes, counts.high_events) == (0.0, 0, 0)
