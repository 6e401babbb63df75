"""What a requester did and heard, in order: the only thing that the checker looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The request went out, for the first time or again; `stream` asks for deltas."""

    id: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway says that the request is on its disk."""

    id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer."""

    id: str
    attempt: int
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Final:
    """The terminal message, byte by byte; `text` is None for an error."""

    id: str
    attempt: int
    seq: int
    body: bytes
    text: str | None


@dataclass(frozen=True, slots=True)
class Outage:
    """Deltas may have been lost here: the broker was away, or the daemon not yet connected."""


Entry = Sent | Accepted | Delta | Final | Outage
