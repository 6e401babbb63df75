"""Where the time of steps goes: one stopwatch that every part of a step stops once.

A lap costs a tenth of a microsecond, so it always runs.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stage(StrEnum):
    """A part of a step, in the order of their turns."""

    PLAN = "plan"
    """Slots are given and taken, and who computes how many tokens is decided."""
    PACK = "pack"
    BIND = "bind"
    RUN = "run"
    """Inside onnxruntime."""
    SAMPLE = "sample"
    TEXT = "text"
    """A chosen token becomes characters, stop strings are looked for, events are made."""


class Laps:
    """Adds up the seconds of each stage."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last_s = clock()
        self._seconds = dict.fromkeys(Stage, 0.0)

    def begin(self) -> None:
        """Start a step: what has passed since the last one belongs to no stage."""
        self._last_s = self._clock()

    def lap(self, stage: Stage) -> None:
        """Count the time since the last lap, or the beginning, for `stage`."""
        now_s = self._clock()
        self._seconds[stage] += now_s - self._last_s
        self._last_s = now_s

    def take(self) -> dict[Stage, float]:
        """Return the seconds of all stages since this was last asked."""
        taken, self._seconds = self._seconds, dict.fromkeys(Stage, 0.0)
        return taken
