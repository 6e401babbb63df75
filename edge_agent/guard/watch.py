"""Watches memory: looks, asks the policy, and tells who wants to know. Runs as a task.

A look is a dozen small files of the kernel's own memory, a millisecond or two, so it is taken on
the event loop: a thread would first have to be scheduled on a machine that is short of everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from edge_agent.guard.policy import Level, State, may_begin, step, struck, wait_s
from edge_agent.guard.reading import LEAVE_SHARE, mark_bytes, room_bytes
from edge_agent.ops.memory_health import MemoryHealth

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.guard.memory import Memory

logger = logging.getLogger(__name__)

CALM_POLL_S = 1.0
# A program that takes a gigabyte a second takes 100 MB in this.
TENSE_POLL_S = 0.1


class Watch:
    """Keeps the level of memory pressure, and the last look at memory."""

    def __init__(
        self,
        look: Callable[[], Memory | None],
        *,
        load_bytes: Callable[[], int],
        is_loading: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look once.

        Args:
            look: takes a sample, reserve and budget already off it; None where nothing tells.
            load_bytes: what loading an engine takes that only its end gives back.
            is_loading: whether an engine is reading its weights.
            clock: seconds that only go forward.
        """
        self._look = look
        self._load_bytes = load_bytes
        self._is_loading = is_loading
        self._clock = clock
        self._listeners: list[Callable[[Level], None]] = []
        self._on_short: list[Callable[[], None]] = []
        self._on_look: list[Callable[[], None]] = []
        self._state = State()
        self._changed_s = clock()
        self._memory: Memory | None = None
        self._is_blind = False
        self.poll()

    @property
    def level(self) -> Level:
        """How tight memory is."""
        return self._state.level

    @property
    def reason(self) -> str:
        """What brought the level, in words and numbers."""
        return self._state.reason

    @property
    def memory(self) -> Memory | None:
        """The last look; None where nothing tells how much memory there is."""
        return self._memory

    @property
    def room_bytes(self) -> int | None:
        """What work that starts now may take so that it raises no level; None if unknown."""
        return None if self._memory is None else room_bytes(self._memory)

    @property
    def may_begin(self) -> bool:
        """Whether new work may begin: the level is kept for long, work waits for less."""
        return may_begin(self._state, self._clock())

    @property
    def retry_after_s(self) -> float:
        """The least time after which new work may begin."""
        return wait_s(self._state, self._clock())

    def subscribe(self, listener: Callable[[Level], None]) -> None:
        """Call `listener` with the new level whenever it changes; what it is now is not told."""
        self._listeners.append(listener)

    def subscribe_look(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each look, each second or more often."""
        self._on_look.append(listener)

    def subscribe_short(self, listener: Callable[[], None]) -> None:
        """Call `listener` when HARD is entered, and each second while memory is still as short."""
        self._on_short.append(listener)

    async def run(self) -> None:
        """Look again and again, more often when memory is tight, until cancelled."""
        while True:
            await asyncio.sleep(self.interval_s)
            self.poll()

    @property
    def interval_s(self) -> float:
        """Time to the next look: short when memory is tight, or will be before a calm look."""
        memory = self._memory
        if memory is None:
            return CALM_POLL_S
        mark = mark_bytes(memory, LEAVE_SHARE[Level.SOFT])
        soon_bytes = self._state.trend.in_bytes(CALM_POLL_S)
        is_calm = self.level is Level.CALM and min(memory.available_bytes, soon_bytes) > mark
        return CALM_POLL_S if is_calm else TENSE_POLL_S

    def poll(self) -> None:
        """Look at memory now, and act on what is seen."""
        memory = self._look()
        if memory is None:
            if not self._is_blind:
                logger.warning("memory unknown: neither the machine nor a control group tells")
            self._is_blind = True
            return
        self._is_blind = False
        self._memory = memory
        self._move(
            step(
                self._state,
                memory,
                self._clock(),
                load_bytes=self._load_bytes(),
                is_loading=self._is_loading(),
            )
        )
        for listener in self._on_look:
            listener()

    def engine_killed(self) -> None:
        """Take notice that the kernel killed the engine for want of memory: CRITICAL at once."""
        self._move(struck(self._state, self._clock()))

    def _move(self, state: State) -> None:
        old, self._state = self._state, state
        if state.level is not old.level:
            self._tell_level(old.level)
        if state.level is Level.HARD and state.short_s != old.short_s:
            for listener in self._on_short:
                listener()

    def _tell_level(self, before: Level) -> None:
        state = self._state
        self._changed_s = self._clock()
        logger.log(
            logging.WARNING if state.level > before else logging.INFO,
            "memory level %s was=%s reason=%r available_mb=%d rss_anon_mb=%d",
            state.level.name.lower(),
            before.name.lower(),
            state.reason,
            (self._memory.available_bytes if self._memory else 0) // 1_000_000,
            (self._memory.rss_anon_bytes if self._memory else 0) // 1_000_000,
        )
        for listener in self._listeners:
            listener(state.level)

    def as_health(self) -> MemoryHealth:
        """Return what health, status and metrics tell of memory."""
        memory = self._memory
        return MemoryHealth(
            level=self.level.name.lower(),
            reason=self.reason,
            level_s=round(self._clock() - self._changed_s, 3),
            may_begin=self.may_begin,
            available_bytes=memory.available_bytes if memory else None,
            swift_bytes=memory.swift_bytes if memory else None,
            total_bytes=memory.total_bytes if memory else None,
            bound=memory.bound if memory else "unknown",
            rss_anon_bytes=memory.rss_anon_bytes if memory else 0,
            rss_file_bytes=memory.rss_file_bytes if memory else 0,
        )
