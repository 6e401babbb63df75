"""When the stages of a request began, on the engine's clock. Plain values: time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_agent.messages import Timings


@dataclass(slots=True, kw_only=True)
class Clock:
    """The times of one request, in seconds of one monotonic clock; it waits at first."""

    submitted_s: float
    due_s: float = math.inf
    """Its deadline."""
    first_token_s: float | None = None
    _waited_s: float = 0.0
    """In earlier waits."""
    _waited_before_token_s: float = 0.0
    _waits_since_s: float | None = None

    def __post_init__(self) -> None:
        self._waits_since_s = self.submitted_s

    def waited_s(self, now_s: float) -> float:
        """Return how long it was without a slot, all waits together."""
        since_s = now_s if self._waits_since_s is None else self._waits_since_s
        return self._waited_s + now_s - since_s

    def has_slot(self, now_s: float) -> None:
        """Note that it has a slot from `now_s` on."""
        self._waited_s = self.waited_s(now_s)
        self._waits_since_s = None

    def waits(self, now_s: float) -> None:
        """Note that it lost its slot."""
        self._waits_since_s = now_s

    def has_token(self, now_s: float) -> None:
        """Note that a token was chosen; the first one counts."""
        if self.first_token_s is None:
            self.first_token_s = now_s
            self._waited_before_token_s = self.waited_s(now_s)

    def is_over(self, now_s: float) -> bool:
        """Return whether the deadline has passed."""
        return now_s >= self.due_s

    def timings(self, now_s: float) -> Timings:
        """Return how long each stage took, to the microsecond.

        Pauses of a preempted request count as waiting, whenever they were.
        """
        waited_s = self.waited_s(now_s)
        first_s, before_s = self.first_token_s, self._waited_before_token_s
        if first_s is None:
            first_s, before_s = now_s, waited_s
        return Timings(
            queue_s=round(waited_s, 6),
            prefill_s=round(first_s - self.submitted_s - before_s, 6),
            decode_s=round(now_s - first_s - (waited_s - before_s), 6),
        )
