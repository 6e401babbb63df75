"""Reads one sample against the marks of four levels. Values in, values out.

Bytes say how near the end is. Stalls and repeated reads of dropped pages say that it hurts already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edge_agent.guard.memory import Memory


class Level(IntEnum):
    """How tight memory is."""

    CALM = 0
    SOFT = 1
    """No new work here while memory is short; what can be given back without loss is."""
    HARD = 2
    """The newest work of low priority gives its memory back, again and again while memory is short,
    and is done again later; what is large does not begin here.
    """
    CRITICAL = 3
    """The engine ends, all its memory comes back, and only peers answer."""


# Shares of memory; where earlyoom warns and kills (10 %, 5 %), and one mark before.
ENTER_SHARE = {Level.SOFT: 0.15, Level.HARD: 0.10, Level.CRITICAL: 0.05}
# The marks are meant for gateways of 4 to 8 GB; on larger machines the same bytes are as safe.
LARGEST_TOTAL_BYTES = 8 << 30
# The gap between entering and leaving, as a share: more than one request or one hiccup.
LEAVE_SHARE = {Level.SOFT: 0.20, Level.HARD: 0.15, Level.CRITICAL: 0.10}

# Stalls within ten seconds, percent of time, and refaults within a window, percent of page cache.
SOFT_SOME_PERCENT = 10.0
HARD_FULL_PERCENT = 5.0
CRITICAL_FULL_PERCENT = 20.0
CRITICAL_REFAULT_PERCENT = 30.0
# The page cache that counts: a tiny one is read again in no time, and of a large one no slow card
# could read 30 % within a window; the programs on it wait all the same.
LEAST_CACHE_BYTES = 64 << 20
LARGEST_CACHE_BYTES = 256 << 20
# A window in which stalls are caught faster than the kernel's ten seconds can tell them.
WINDOW_S = 2.0
HARD_WINDOW_STALL_S = 0.15
# What is left of a cause when it is over.
RECOVERY_FACTOR = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counters that only grow, at one moment or between two."""

    stall_s: float = 0.0
    refault_bytes: float = 0.0
    high_events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one sample says against the marks."""

    entered: Level
    """The highest level whose marks are met."""
    kept: Level
    """The highest level that may not be left yet; never below `entered`."""
    why: str
    """The numbers that say so, in words."""


def read(
    memory: Memory, happened: Counts, *, load_bytes: int = 0, is_loading: bool = False
) -> Reading:
    """Return what `memory`, and what `happened` within a window, ask for."""
    by_bytes = _by_bytes(memory, load_bytes)
    if is_loading or not _is_short(memory):
        return by_bytes
    readings = (by_bytes, *_by_stalls(memory, happened), *_by_events(happened))
    worst = max(readings, key=lambda reading: reading.entered)
    return replace(worst, kept=max(reading.kept for reading in readings))


def _is_short(memory: Memory) -> bool:
    """Tell whether a stall can be for want of memory that we could give back.

    Neighbours wait for pages too, within limits of their own; where there is plenty beside our
    warm weights, ending our engine would not help them.
    """
    return memory.swift_bytes <= mark_bytes(memory, LEAVE_SHARE[Level.SOFT])


def _by_bytes(memory: Memory, load_bytes: int) -> Reading:
    available, total = memory.available_bytes, _megabytes(memory.total_bytes)
    leave = {level: mark_bytes(memory, share) for level, share in LEAVE_SHARE.items()}
    if load_bytes:
        # Or the engine would come back only to raise the level by that.
        after = load_bytes + mark_bytes(memory, ENTER_SHARE[Level.SOFT])
        leave[Level.CRITICAL] = max(leave[Level.CRITICAL], after)
    return Reading(
        entered=level_at(memory, available),
        kept=_highest(level for level, mark in leave.items() if available <= mark),
        why=f"{_megabytes(available)} available of {total} ({memory.bound})",
    )


def _by_stalls(memory: Memory, happened: Counts) -> Iterator[Reading]:
    stall = memory.stall
    if stall is None:
        yield from _by_refaults(memory, happened)
        return
    some, full = stall.some_percent, stall.full_percent
    why = f"programs waited for memory {some:.0f} % of ten seconds, all of them {full:.0f} %"
    yield _against(some, {Level.SOFT: SOFT_SOME_PERCENT}, why)
    yield _against(
        full, {Level.HARD: HARD_FULL_PERCENT, Level.CRITICAL: CRITICAL_FULL_PERCENT}, why
    )
    milliseconds = happened.stall_s * 1000
    why = f"programs waited for memory {milliseconds:.0f} ms within {WINDOW_S:.0f} s"
    yield _against(happened.stall_s, {Level.HARD: HARD_WINDOW_STALL_S}, why)


def _by_refaults(memory: Memory, happened: Counts) -> Iterator[Reading]:
    """Judge the cause where the pain is not told: many kernels for boards come without PSI."""
    if memory.file_bytes is None:
        return
    cache_bytes = min(max(memory.file_bytes, LEAST_CACHE_BYTES), LARGEST_CACHE_BYTES)
    percent = 100 * happened.refault_bytes / cache_bytes
    megabytes = happened.refault_bytes / 1e6
    why = f"{megabytes:.0f} MB of files were dropped and read again within {WINDOW_S:.0f} s"
    yield _against(percent, {Level.CRITICAL: CRITICAL_REFAULT_PERCENT}, why)


def _by_events(happened: Counts) -> Iterator[Reading]:
    why = "the control group met its soft limit (memory.high)"
    yield _against(happened.high_events, {Level.SOFT: 1}, why)


def _against(value: float, marks: dict[Level, float], why: str) -> Reading:
    """Return the levels whose marks `value` reaches, and those it is not yet well below."""
    return Reading(
        entered=_highest(level for level, mark in marks.items() if value >= mark),
        kept=_highest(level for level, mark in marks.items() if value >= mark * RECOVERY_FACTOR),
        why=why,
    )


def _highest(levels: Iterable[Level]) -> Level:
    return max(levels, default=Level.CALM)


def level_at(memory: Memory, available_bytes: int) -> Level:
    """Return the level that is entered when so much of `memory` is available."""
    return _highest(
        level for level, share in ENTER_SHARE.items() if available_bytes < mark_bytes(memory, share)
    )


def mark_bytes(memory: Memory, share: float) -> int:
    """Return `share` of memory, of a large machine as of one that is not."""
    return int(share * min(memory.total_bytes, LARGEST_TOTAL_BYTES))


def room_bytes(memory: Memory) -> int:
    """Return what new work may take so that it raises no level by itself."""
    return max(0, memory.available_bytes - mark_bytes(memory, ENTER_SHARE[Level.SOFT]))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
