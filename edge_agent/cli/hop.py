"""Times the way of events from the engine's process to the daemon, over the same kind of link."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Self

from edge_agent.worker.link import Emit, FrameReader, ToParent, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_agent.messages import Event

_READ_BYTES = 1 << 16


class Hop:
    """A link whose ends are both here, so that what both ends do is counted."""

    def __init__(self) -> None:
        self._child, self._parent = socket.socketpair()
        self._frames = FrameReader(ToParent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
        self._parent.close()

    def carry(self, steps: Iterable[Sequence[tuple[str, Event]]]) -> float:
        """Send the events of each step as the engine's process does, and read them as the daemon.

        Returns:
            Seconds that all of it took.
        """
        began_s = time.perf_counter()
        for told in steps:
            self._child.sendall(
                b"".join(encode(Emit(id=name, event=event)) for name, event in told)
            )
            left = len(told)
            while left:
                left -= sum(1 for _ in self._frames.feed(self._parent.recv(_READ_BYTES)))
        return time.perf_counter() - began_s
