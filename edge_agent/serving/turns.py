"""Decides which job runs next and what becomes of one that failed. Plain values in and out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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
from edge_agent.messages import Priority
from edge_agent.precedence import OVERDUE, RANK, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edge_agent.messages import Failed
    from edge_agent.serving.job import Ticket

    Places = Callable[[Ticket], tuple[int, int, int]]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many jobs may run."""

    most_equals: int
    """Of a priority and those above it."""
    most_in_all: int
    max_crashes: int
    """So many make a job poison."""


def after(failed: Failed, *, crashes: int, max_crashes: int) -> Next:
    """Return what becomes of a job; `crashes` were counted before this failure."""
    if failed.code == EngineCrashed.code:
        return Next.POISON if crashes + 1 >= max_crashes else Next.BLAME
    return Next.AGAIN if failed.code in _NOT_NOW else Next.FINISH


def must_run_alone(crashes: int, max_crashes: int) -> bool:
    """Tell whether the next crash is the last: no neighbour may then be blamed with it."""
    return 0 < crashes == max_crashes - 1


def places(running: Iterable[Ticket], *, now_s: float, ageing_s: float) -> Places:
    """Return the function that tells the place of a job in the line; the smallest is next.

    By rank; of equals the client with the fewest jobs that run goes first, then age. Overdue jobs
    go by age alone, so that nobody starves.
    """
    held = Counter(ticket.client for ticket in running)

    def place(ticket: Ticket) -> tuple[int, int, int]:
        waited_s = 0.0 if ticket.since_s is None else now_s - ticket.since_s
        level = rank(ticket.priority, waited_s=waited_s, ageing_s=ageing_s)
        return -level, 0 if level == OVERDUE else held[ticket.client], ticket.seq

    return place


def choose(
    waiting: Iterable[Ticket],
    running: Sequence[Ticket],
    *,
    place: Places,
    limits: Limits,
) -> Ticket | None:
    """Return the job to start now, or None; `waiting` are those whose time has come.

    Lower jobs that run do not keep a higher one from the engine, which decides whose slot it gets.
    """
    max_crashes = limits.max_crashes
    if any(must_run_alone(ticket.crashes, max_crashes) for ticket in running):
        return None
    if len(running) >= limits.most_in_all:
        return None
    has_room = {
        priority
        for priority in Priority
        if sum(RANK[ticket.priority] >= RANK[priority] for ticket in running) < limits.most_equals
    }
    ticket = min((one for one in waiting if one.priority in has_room), key=place, default=None)
    # One that must be alone waits for those that run, and holds back those behind it.
    if ticket and running and must_run_alone(ticket.crashes, max_crashes):
        return None
    return ticket
