"""Watches counters that only grow over short windows. Values in and out; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.guard.reading import WINDOW_S, Counts

if TYPE_CHECKING:
    from edge_agent.guard.memory import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A short time in which counters are watched."""

    start_s: float
    start: Counts
    """Counters when it began."""
    before: Counts = field(default_factory=Counts)
    """What the window before it brought."""


def moved(window: Window | None, memory: Memory, now_s: float) -> Window:
    """Return the window that `now_s` is in; None is before the first."""
    counts = _counts(memory)
    if window is None:
        return Window(start_s=now_s, start=counts)
    if now_s - window.start_s < WINDOW_S:
        return window
    return Window(start_s=now_s, start=counts, before=_since(window, counts, now_s))


def happened(window: Window, memory: Memory, now_s: float) -> Counts:
    """Return the most that happened in `window` so far, or in the one before it."""
    one, other = window.before, _since(window, _counts(memory), now_s)
    return Counts(
        stall_s=max(one.stall_s, other.stall_s),
        refault_bytes=max(one.refault_bytes, other.refault_bytes),
        high_events=max(one.high_events, other.high_events),
    )


def _counts(memory: Memory) -> Counts:
    return Counts(
        stall_s=memory.stall.some_s if memory.stall else 0.0,
        refault_bytes=memory.refault_bytes or 0,
        high_events=memory.high_events or 0,
    )


def _since(window: Window, counts: Counts, now_s: float) -> Counts:
    """Return what happened in `window`, of one that became longer than it should its share."""
    share = WINDOW_S / max(WINDOW_S, now_s - window.start_s)
    start = window.start
    return Counts(
        stall_s=(counts.stall_s - start.stall_s) * share,
        refault_bytes=(counts.refault_bytes - start.refault_bytes) * share,
        high_events=counts.high_events - start.high_events,
    )
