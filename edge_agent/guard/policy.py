"""Decides how tight memory is: levels that are climbed at once and left slowly. Values in and out.

A level is entered at one mark and left at another, after a clean time, so that a neighbour that
takes and gives back the same memory again and again does not make us do so too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge_agent.guard.reading import WINDOW_S, Counts, Level, Reading, read

if TYPE_CHECKING:
    from edge_agent.guard.memory import Memory

# The level is this module's answer, whoever defines it.
__all__ = ["Level", "State", "hold_s", "step", "struck", "wait_s"]

RISE_GAP_S = 1.0  # what a level does must show before the next is judged
CLEAN_S = {Level.SOFT: 30.0, Level.HARD: 60.0, Level.CRITICAL: 120.0}
# A rise this soon after a fall is the same trouble again: the next fall waits as long.
REPEAT_S = 600.0
# Each reload that ended in need doubles the wait for the next, up to an hour.
LONGEST_RELOAD_WAIT_S = 3600.0
FORGIVE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A short time in which counters are watched."""

    start_s: float
    start: Counts
    """Counters when it began."""
    before: Counts = field(default_factory=Counts)
    """What the window before it brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the guard knows; begins as `State()`."""

    level: Level = Level.CALM
    reason: str = "enough memory"
    """Why the level is what it is, with the numbers of that moment."""
    rose_s: float | None = None
    fell_s: float | None = None
    clean_s: float | None = None
    """Since when the level could be lower."""
    floor: Level = Level.CALM
    """The highest level that was to be kept since then."""
    is_repeat: bool = False
    """Whether the last rise came soon after a fall."""
    criticals: int = 0
    """How often CRITICAL was entered without an hour of peace between."""
    critical_s: float | None = None
    """When CRITICAL was last entered or left."""
    window: Window | None = None


def step(
    state: State, memory: Memory, now_s: float, *, load_bytes: int = 0, is_loading: bool = False
) -> State:
    """Return the state after a sample.

    Args:
        state: the state before.
        memory: the sample.
        now_s: when it was taken, on a clock that only goes forward.
        load_bytes: what loading an engine takes that only its end gives back; CRITICAL is left
            when so much is there above the mark of SOFT.
        is_loading: an engine is loading; it reads its weights from the disk and waits for them,
            which is no sign of need.
    """
    window = _moved(state.window, memory, now_s)
    happened = _most(window.before, _since(window, _counts(memory), now_s))
    # A running engine has what it needs; only one that is to come back must find it.
    needed_bytes = load_bytes if state.level is Level.CRITICAL else 0
    reading = read(memory, happened, load_bytes=needed_bytes, is_loading=is_loading)
    state = _forgiven(replace(state, window=window), now_s)
    if reading.entered > state.level:
        return _risen(state, reading, now_s)
    if reading.kept >= state.level:
        return replace(state, clean_s=None, floor=Level.CALM)
    return _cleaner(state, reading, now_s)


def struck(state: State, now_s: float) -> State:
    """Return the state after the kernel killed the engine for want of memory: CRITICAL, anew."""
    risen = Reading(
        entered=Level.CRITICAL, kept=Level.CRITICAL, why="the kernel killed the engine for memory"
    )
    if state.level is Level.CRITICAL:
        state = replace(state, level=Level.HARD)
    return _risen(replace(state, rose_s=None), risen, now_s)


def hold_s(state: State) -> float:
    """Return how long memory must be clean before the level of `state` is left."""
    if state.level is Level.CALM:
        return 0.0
    clean_s = CLEAN_S[state.level]
    if state.level is Level.CRITICAL:
        doublings = min(max(0, state.criticals - 1), 16)
        clean_s = min(clean_s * 2**doublings, LONGEST_RELOAD_WAIT_S)
    return max(clean_s, REPEAT_S) if state.is_repeat else clean_s


def wait_s(state: State, now_s: float) -> float:
    """Return the least time until the level can fall: what a refused client is told to wait."""
    since = now_s if state.clean_s is None else state.clean_s
    return max(0.0, hold_s(state) - (now_s - since))


def _risen(state: State, reading: Reading, now_s: float) -> State:
    if state.rose_s is not None and now_s - state.rose_s < RISE_GAP_S:
        return replace(state, clean_s=None, floor=Level.CALM)
    is_recent = state.fell_s is not None and now_s - state.fell_s < REPEAT_S
    is_critical = reading.entered is Level.CRITICAL
    return replace(
        state,
        level=reading.entered,
        reason=reading.why,
        rose_s=now_s,
        clean_s=None,
        floor=Level.CALM,
        is_repeat=is_recent or state.is_repeat,
        criticals=state.criticals + is_critical,
        critical_s=now_s if is_critical else state.critical_s,
    )


def _cleaner(state: State, reading: Reading, now_s: float) -> State:
    """Count a clean sample; fall, to the highest level kept meanwhile, when they last."""
    since = now_s if state.clean_s is None else state.clean_s
    floor = max(state.floor, reading.kept)
    if now_s - since < hold_s(state):
        return replace(state, clean_s=since, floor=floor)
    return replace(
        state,
        level=floor,
        reason=reading.why,
        fell_s=now_s,
        clean_s=None,
        floor=Level.CALM,
        is_repeat=state.is_repeat and floor > Level.CALM,
        critical_s=now_s if state.level is Level.CRITICAL else state.critical_s,
    )


def _forgiven(state: State, now_s: float) -> State:
    is_over = state.level is not Level.CRITICAL and state.critical_s is not None
    if is_over and now_s - (state.critical_s or 0.0) >= FORGIVE_S:
        return replace(state, criticals=0, critical_s=None)
    return state


def _moved(window: Window | None, memory: Memory, now_s: float) -> Window:
    """Return the window that `now_s` is in."""
    counts = _counts(memory)
    if window is None:
        return Window(start_s=now_s, start=counts)
    if now_s - window.start_s < WINDOW_S:
        return window
    return Window(start_s=now_s, start=counts, before=_since(window, counts, now_s))


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


def _most(one: Counts, other: Counts) -> Counts:
    return Counts(
        stall_s=max(one.stall_s, other.stall_s),
        refault_bytes=max(one.refault_bytes, other.refault_bytes),
        high_events=max(one.high_events, other.high_events),
    )
