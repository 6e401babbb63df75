"""Tells from the last looks at memory how much will be there in a moment. Values in and out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

# Two stretches between looks: a fall that both show goes on, one that only one shows may be over.
NUM_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Look:
    """How much memory was available, and when."""

    now_s: float
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Trend:
    """The last looks, oldest first."""

    looks: tuple[Look, ...] = ()

    def seen(self, available_bytes: int, now_s: float) -> Trend:
        """Return the trend with one look more."""
        return Trend((*self.looks, Look(now_s, available_bytes))[-NUM_LOOKS:])

    def in_bytes(self, ahead_s: float) -> int:
        """Return what will be available in `ahead_s` if memory goes on as between the last two."""
        return self._ahead(ahead_s, self._falls[-1] if self._falls else 0.0)

    def surely_in_bytes(self, ahead_s: float) -> int:
        """Return the same by the slower of the last two stretches: what has stopped falls not."""
        falls = self._falls
        return self._ahead(ahead_s, min(falls) if len(falls) == NUM_LOOKS - 1 else 0.0)

    def _ahead(self, ahead_s: float, fall: float) -> int:
        return max(0, int(self.looks[-1].available_bytes - fall * ahead_s))

    @property
    def _falls(self) -> list[float]:
        """Bytes a second that went between each two looks; memory that comes back counts 0."""
        return [
            max(0.0, (one.available_bytes - other.available_bytes) / (other.now_s - one.now_s))
            for one, other in itertools.pairwise(self.looks)
            if other.now_s > one.now_s
        ]
