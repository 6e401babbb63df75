"""Decides how tight memory is: levels that are climbed at once and left slowly. Values in and out.

A level is entered at one mark and left at another, after a clean time and not within ten minutes
of the last change: whatever a neighbour takes and gives back, at any pace, a fall and the rise that
may follow it are the only two changes of ten minutes.

That would be long to be idle for one short need. So new work does not wait for the level to fall,
only for the clean time (`may_begin`): to let a request in costs nothing that must be taken back.

Rises have a gap between them, to see what the last one brought. Memory that falls fast would meet
the end within that gap, so a rise looks ahead as far: it enters the level whose mark will be met
when the gap is over, if two looks in a row show the fall. Where only the last one does, the rise
waits for one look more: a neighbour that took what it wanted in one leap has stopped by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge_agent.guard.reading import Level, Reading, level_at, read
from edge_agent.guard.trend import Trend
from edge_agent.guard.window import Window, happened, moved

if TYPE_CHECKING:
    from edge_agent.guard.memory import Memory

# The level is this module's answer, whoever defines it.
__all__ = ["Level", "State", "hold_s", "may_begin", "step", "struck", "wait_s"]

RISE_GAP_S = 1.0  # what a level does must show before the next is judged
CLEAN_S = {Level.SOFT: 30.0, Level.HARD: 60.0, Level.CRITICAL: 120.0}
# A fall and the rise after it are two changes; a third may not come within ten minutes.
SETTLE_S = 600.0
# A rise this soon after a fall is the same trouble again: the next fall waits for as long a peace.
REPEAT_S = 600.0
# Each reload that ended in need doubles the wait for the next, up to an hour.
LONGEST_RELOAD_WAIT_S = 3600.0
FORGIVE_S = 3600.0

_KILLED = "the kernel killed the engine for memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the guard knows; begins as `State()`."""

    level: Level = Level.CALM
    reason: str = "enough memory"
    """Why the level is what it is, with the numbers of that moment."""
    rose_s: float | None = None
    fell_s: float | None = None
    clean_s: tuple[float | None, ...] = (None,) * len(Level)
    """For each level, since when nothing has spoken for it; None while something does."""
    short_s: float | None = None
    """When memory was last so short that running work had to give way, at most once a gap."""
    is_doubted: bool = False
    """Whether a rise waits for one look more."""
    is_repeat: bool = False
    """Whether the last rise came soon after a fall."""
    criticals: int = 0
    """How often CRITICAL was entered without an hour of peace between."""
    critical_s: float | None = None
    """When CRITICAL was last entered or left."""
    window: Window | None = None
    trend: Trend = field(default_factory=Trend)


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
            which is no sign of need, and what it takes has an end that is known.
    """
    window = moved(state.window, memory, now_s)
    # A running engine has what it needs; only one that is to come back must find it.
    needed_bytes = load_bytes if state.level is Level.CRITICAL else 0
    reading = read(
        memory, happened(window, memory, now_s), load_bytes=needed_bytes, is_loading=is_loading
    )
    trend = Trend() if is_loading else state.trend
    state = replace(
        _forgiven(state, now_s),
        window=window,
        trend=trend.seen(memory.available_bytes, now_s),
        clean_s=_cleaned(state, reading, now_s),
    )
    if reading.entered > state.level:
        return _climbed(state, memory, reading, now_s)
    return _short(_fallen(replace(state, is_doubted=False), reading, now_s), reading, now_s)


def struck(state: State, now_s: float) -> State:
    """Return the state after the kernel killed the engine for want of memory: CRITICAL, anew.

    If memory was seen to be critical just before, it is the same need and counts once.
    """
    if state.level is Level.CRITICAL and not _has_gap(state, now_s):
        return replace(state, reason=_KILLED)
    return _risen(state, Level.CRITICAL, _KILLED, now_s)


def hold_s(state: State) -> float:
    """Return how long nothing must speak for the level of `state` before it is left."""
    return _hold_s(state, state.level)


def may_begin(state: State, now_s: float) -> bool:
    """Tell whether new work may begin: at CALM, and before if there was peace for long enough."""
    return state.level < Level.CRITICAL and _begin_wait_s(state, now_s) <= 0


def wait_s(state: State, now_s: float) -> float:
    """Return the least time until new work may begin: what a refused client is told to wait."""
    if state.level is Level.CRITICAL:
        since = _since(state.clean_s[Level.CRITICAL], now_s)
        return max(0.0, hold_s(state) - since, SETTLE_S - _since(_changed_s(state), now_s))
    return _begin_wait_s(state, now_s)


def _begin_wait_s(state: State, now_s: float) -> float:
    if state.level is Level.CALM:
        return 0.0
    return max(0.0, CLEAN_S[state.level] - _since(state.clean_s[Level.SOFT], now_s))


def _hold_s(state: State, level: Level) -> float:
    if level is Level.CALM:
        return 0.0
    clean_s = CLEAN_S[level]
    if level is Level.CRITICAL:
        doublings = min(max(0, state.criticals - 1), 16)
        clean_s = min(clean_s * 2**doublings, LONGEST_RELOAD_WAIT_S)
    return max(clean_s, REPEAT_S) if state.is_repeat else clean_s


def _climbed(state: State, memory: Memory, reading: Reading, now_s: float) -> State:
    """Rise to the level that is met, or to the one that will be when the gap is over."""
    if not _has_gap(state, now_s):
        return state
    soon_bytes = state.trend.surely_in_bytes(RISE_GAP_S)
    level = max(reading.entered, level_at(memory, soon_bytes))
    if not state.is_doubted and level_at(memory, state.trend.in_bytes(RISE_GAP_S)) > level:
        return replace(state, is_doubted=True)
    reason = reading.why
    if level > reading.entered:
        reason = f"{reason}, and {soon_bytes / 1e6:.0f} MB in {RISE_GAP_S:.0f} s at this pace"
    return _risen(state, level, reason, now_s)


def _risen(state: State, level: Level, reason: str, now_s: float) -> State:
    is_recent = state.fell_s is not None and now_s - state.fell_s < REPEAT_S
    is_critical = level is Level.CRITICAL
    return replace(
        state,
        level=level,
        reason=reason,
        rose_s=now_s,
        clean_s=tuple(None if it <= level else state.clean_s[it] for it in Level),
        short_s=now_s if level >= Level.HARD else state.short_s,
        is_doubted=False,
        is_repeat=is_recent or state.is_repeat,
        criticals=state.criticals + is_critical,
        critical_s=now_s if is_critical else state.critical_s,
    )


def _fallen(state: State, reading: Reading, now_s: float) -> State:
    """Fall to the highest level that something spoke for within its clean time, if it is time."""
    level = max(
        (it for it in Level if it <= state.level and not _is_clean(state, it, now_s)),
        default=Level.CALM,
    )
    if level is state.level or _since(_changed_s(state), now_s) < SETTLE_S:
        return state
    return replace(
        state,
        level=level,
        reason=reading.why,
        fell_s=now_s,
        is_repeat=state.is_repeat and level > Level.CALM,
        critical_s=now_s if state.level is Level.CRITICAL else state.critical_s,
    )


def _short(state: State, reading: Reading, now_s: float) -> State:
    """Note, once a gap, that memory is still as short as it was when HARD was entered."""
    is_short = state.level is Level.HARD and reading.entered is Level.HARD
    if is_short and _since(state.short_s, now_s, never_s=RISE_GAP_S) >= RISE_GAP_S:
        return replace(state, short_s=now_s)
    return state


def _cleaned(state: State, reading: Reading, now_s: float) -> tuple[float | None, ...]:
    """Return since when nothing has spoken for each level, `reading` taken into account."""
    return tuple(
        None if level <= reading.kept else now_s if since_s is None else since_s
        for level, since_s in zip(Level, state.clean_s, strict=True)
    )


def _is_clean(state: State, level: Level, now_s: float) -> bool:
    return _since(state.clean_s[level], now_s, never_s=-1.0) >= _hold_s(state, level)


def _has_gap(state: State, now_s: float) -> bool:
    return _since(state.rose_s, now_s, never_s=RISE_GAP_S) >= RISE_GAP_S


def _changed_s(state: State) -> float | None:
    """Return when the level last changed."""
    times = [time_s for time_s in (state.rose_s, state.fell_s) if time_s is not None]
    return max(times, default=None)


def _since(then_s: float | None, now_s: float, *, never_s: float = 0.0) -> float:
    return never_s if then_s is None else now_s - then_s


def _forgiven(state: State, now_s: float) -> State:
    is_over = state.level is not Level.CRITICAL and state.critical_s is not None
    if is_over and now_s - (state.critical_s or 0.0) >= FORGIVE_S:
        return replace(state, criticals=0, critical_s=None)
    return state
