"""What the journal keeps, as plain values: a request on its way in, a job, a result on its way out.

`address` is opaque here: bytes in which a transport notes where and how to answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edge_agent.messages import Priority

if TYPE_CHECKING:
    from edge_agent.messages import Request
    from edge_agent.serving.clock import Moment


class JobState(StrEnum):
    """Where a job is in its life; it only ever moves down this list, or back from running."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    """Its one terminal result is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request that asks to be accepted.

    `key` is what makes a repeat recognisable, None if the client gave nothing to recognise it by.
    `payload_sha` is the SHA-256 of the bytes as they came. `packet_id` and `is_redelivery` are the
    wire's own hints, used only when there is no key. `deadline_s` counts from now.
    """

    source: str
    key: bytes | None
    payload_sha: bytes
    request: Request
    address: bytes
    deadline_s: float
    correlation: bytes | None = None
    packet_id: int | None = None
    is_redelivery: bool = False


@dataclass(slots=True, kw_only=True)
class Ticket:
    """An open job as the scheduler sees it; light enough to hold thousands."""

    seq: int
    id: str
    attempt: int
    crashes: int
    deadline: Moment
    priority: Priority = Priority.NORMAL
    client: str = ""
    """Whom it counts for."""
    since_s: float | None = None
    """When it came into the line of this daemon, on the clock of its loop."""
    is_suspect: bool = field(default=False)
    """Accepted in an earlier run of the machine: it may be what ended that run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that runs; `attempt` counts from 1 and rises whenever its deltas start anew."""

    seq: int
    request: Request
    address: bytes
    attempt: int
    crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The journal has the request; it is a repeat unless `is_new`, answered if `is_done`."""

    ticket: Ticket
    address: bytes
    """Where its answer goes; that of the first time, if the repeat cannot know it."""
    is_new: bool
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A terminal message that its receiver has not confirmed yet."""

    seq: int
    id: str
    address: bytes
    body: bytes
