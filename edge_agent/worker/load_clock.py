"""Knows how long a load takes, from the last one that was measured. Time is an argument."""

from __future__ import annotations


class LoadClock:
    """Times one load after the other."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._usual_s: float | None = None

    def begin(self, now_s: float) -> None:
        """A load begins."""
        self._began_s = now_s

    def ready(self, now_s: float) -> None:
        """The load that began is complete; it is the measure of the next."""
        if self._began_s is not None:
            self._usual_s = now_s - self._began_s
        self._began_s = None

    def stop(self) -> None:
        """Whatever is under way counts no more."""
        self._began_s = None

    def left_s(self, now_s: float) -> float | None:
        """Return how long a load takes, less what of one has passed; None if none was measured."""
        if self._usual_s is None or self._began_s is None:
            return self._usual_s
        return max(0.0, self._began_s + self._usual_s - now_s)
