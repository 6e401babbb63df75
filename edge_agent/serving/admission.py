"""Decides whether a request may enter. Arithmetic on plain values: no clock, no I/O, no logging."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

# A client that comes back sooner finds the same queue; one told to wait longer gives up.
LEAST_RETRY_S = 1.0
LONGEST_RETRY_S = 120.0
# The newest answer counts a fifth: five or so answers later the estimate has forgotten a change
# of the usual length of prompts.
PACE_WEIGHT = 0.2


class Verdict(Enum):
    """What becomes of a request at the door."""

    ENTER = auto()
    FULL = auto()
    DRAINING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the house looks like to somebody at the door."""

    open_requests: int
    """Requests inside: running, waiting for a slot, waiting for the engine."""
    slots: int
    queue_requests: int
    is_draining: bool


def admit(load: Load) -> Verdict:
    """Return whether one more request may enter."""
    if load.is_draining:
        return Verdict.DRAINING
    if load.open_requests >= load.slots + load.queue_requests:
        return Verdict.FULL
    return Verdict.ENTER


def next_pace_s(pace_s: float | None, answer_s: float) -> float:
    """Return the usual time of one answer, now that one more took `answer_s`."""
    return answer_s if pace_s is None else pace_s + PACE_WEIGHT * (answer_s - pace_s)


def retry_after_s(load: Load, pace_s: float | None) -> float:
    """Return when a refused client finds half of the queue gone, at `pace_s` a request.

    One free place would be taken by whoever else was refused; without a measured pace it is the
    least there is.
    """
    rounds = (load.queue_requests / 2) / load.slots
    return min(LONGEST_RETRY_S, max(LEAST_RETRY_S, (pace_s or 0.0) * rounds))
