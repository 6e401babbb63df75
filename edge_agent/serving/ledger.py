"""Counts who is inside, and what those who are will still take. Plain values: no clock, no I/O."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from edge_agent.serving.admission import Need


@dataclass(slots=True, eq=False)
class Entry:
    """A request, for as long as it is inside."""

    need: Need
    taken_bytes: int = 0
    """What it has taken of what it needs, as far as its events tell."""


class Ledger:
    """The requests inside, by where they are."""

    def __init__(self) -> None:
        self._at_engine: set[Entry] = set()
        self._at_door: set[Entry] = set()
        self._at_peers: set[Entry] = set()
        self.most_read = 0
        """Most requests at once whose prompts the engine had read, since it loaded."""

    @property
    def here(self) -> int:
        """Requests for the engine: running, waiting for a slot, waiting at the door."""
        return len(self._at_engine) + len(self._at_door)

    @property
    def here_bytes(self) -> int:
        """Bytes of their prompts."""
        return sum(entry.need.prompt_bytes for entry in (*self._at_engine, *self._at_door))

    @property
    def held(self) -> int:
        """Requests that wait at the door for memory."""
        return len(self._at_door)

    @property
    def there(self) -> int:
        """Requests that peers answer."""
        return len(self._at_peers)

    @property
    def promised_bytes(self) -> int:
        """Memory that requests at the engine will still take."""
        return sum(
            max(0, (entry.need.needed_bytes or 0) - entry.taken_bytes) for entry in self._at_engine
        )

    @property
    def predicted_bytes(self) -> int:
        """Memory that requests at the engine take in all."""
        return sum(entry.need.needed_bytes or 0 for entry in self._at_engine)

    def has_read(self, entry: Entry) -> None:
        """Note that the engine has read the prompt of `entry`: most of its memory is taken."""
        entry.taken_bytes = entry.need.prompt_memory_bytes or 1
        num_read = sum(entry.taken_bytes > 0 for entry in self._at_engine)
        self.most_read = max(self.most_read, num_read)

    def engine_is_new(self) -> None:
        """Note that an engine loads, which nobody has asked anything."""
        self.most_read = 0

    def at_engine(self, need: Need) -> AbstractContextManager[Entry]:
        """Count a request that was handed to the engine."""
        return _inside(self._at_engine, need)

    def at_door(self, need: Need) -> AbstractContextManager[Entry]:
        """Count a request that waits for memory before it is handed to the engine."""
        return _inside(self._at_door, need)

    def at_peer(self, need: Need) -> AbstractContextManager[Entry]:
        """Count a request that a peer answers."""
        return _inside(self._at_peers, need)


@contextmanager
def _inside(entries: set[Entry], need: Need) -> Iterator[Entry]:
    entry = Entry(need)
    entries.add(entry)
    try:
        yield entry
    finally:
        entries.discard(entry)
