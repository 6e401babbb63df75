"""Decides which job runs next and what becomes of one that failed. Plain values in and out."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from edge_agent.errors import (
    Draining,
    EngineCrashed,
    Loading,
    Overloaded,
    PeerFailed,
    Pressure,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.messages import Failed
    from edge_agent.serving.job import Ticket

# These say "not now" about the engine and the peers, nothing about the request.
_NOT_NOW = {
    error.code for error in (Draining, Loading, Overloaded, PeerFailed, Pressure, Unavailable)
}
# A crashed engine is back within seconds; asking costs two small writes, so we ask often enough.
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0


class Next(Enum):
    """What becomes of a job whose run failed."""

    FINISH = auto()
    """The failure is its result."""
    AGAIN = auto()
    """Back into the queue; it is not to blame."""
    BLAME = auto()
    """Back into the queue, with a crash to its name."""
    POISON = auto()
    """It crashed the engine too often."""


def after(failed: Failed, *, crashes: int, max_crashes: int) -> Next:
    """Return what becomes of a job; `crashes` were counted before this failure."""
    if failed.code == EngineCrashed.code:
        return Next.POISON if crashes + 1 >= max_crashes else Next.BLAME
    return Next.AGAIN if failed.code in _NOT_NOW else Next.FINISH


def must_run_alone(crashes: int, max_crashes: int) -> bool:
    """Tell whether the next crash is the last: no neighbour may then be blamed with it."""
    return 0 < crashes == max_crashes - 1


def choose(
    waiting: Iterable[Ticket], running: Iterable[Ticket], *, most: int, max_crashes: int
) -> Ticket | None:
    """Return the job to start now, or None; `waiting` are those whose time has come, in order."""
    beside = tuple(running)
    if len(beside) >= most or any(must_run_alone(t.crashes, max_crashes) for t in beside):
        return None
    ticket = next(iter(waiting), None)
    # One that must be alone waits for those that run, and holds back those behind it.
    if ticket and beside and must_run_alone(ticket.crashes, max_crashes):
        return None
    return ticket
