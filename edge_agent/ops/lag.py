"""Measures how late the event loop is: what every answer, heartbeat and probe waits besides.

A task sleeps again and again and notes how late it woke: whatever kept the loop from it, a slow
call or a processor that others had, keeps everything else from it too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Each wake costs a quarter of a millisecond: four in a second are 0.1 % of an idle core.
SLEEP_S = 0.25
# A minute: long enough that its 99th percentile is more than a single hiccup.
NUM_KEPT = 240
_PERCENTILE = 0.99


class LoopLag(Struct, frozen=True, kw_only=True):
    """How late the event loop was within the last minute."""

    p99_s: float
    """Of a hundred wakes, ninety-nine were no later than this."""
    worst_s: float


class Lag:
    """Keeps how late the event loop woke its task; runs as that task."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` tells seconds that only go forward; `sleep` lets so many of them pass."""
        self._clock = clock
        self._sleep = sleep
        self._late_s: deque[float] = deque(maxlen=NUM_KEPT)

    async def run(self) -> None:
        """Sleep and note, until cancelled."""
        while True:
            due_s = self._clock() + SLEEP_S
            await self._sleep(SLEEP_S)
            self._late_s.append(max(0.0, self._clock() - due_s))

    def as_health(self) -> LoopLag | None:
        """Return what health and metrics tell; None before the first wake."""
        if not self._late_s:
            return None
        ordered = sorted(self._late_s)
        # The nearest rank: the least value that so many of all are no greater than.
        rank = math.ceil(_PERCENTILE * len(ordered))
        return LoopLag(p99_s=round(ordered[rank - 1], 6), worst_s=round(ordered[-1], 6))
