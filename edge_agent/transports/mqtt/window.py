"""Messages at QoS 1 on their way: so many unconfirmed, the others in line behind them.

Nobody who hands in a message waits for room: room comes with confirmations, and those are read
from the same socket as the requests that make new messages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.transports.mqtt.wire import Outgoing

# Ours are small: a broker takes so many unconfirmed ones, unless it says that it takes fewer.
MOST_IN_FLIGHT = 20

Confirmation = asyncio.Future[int | None]
"""The reason in PUBACK, or None: the connection ended before it came."""


class Window:
    """The line and the flight."""

    def __init__(self, publish: Callable[[Outgoing], int | None]) -> None:
        """Send by `publish`, which returns the packet id, or None if it could not."""
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._most = MOST_IN_FLIGHT
        self._line: deque[tuple[Outgoing, Confirmation]] = deque()
        self._flight: dict[int, Confirmation] = {}
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Messages in line."""
        return len(self._line)

    def narrow(self, most: int) -> None:
        """Have no more than `most` in flight."""
        self._most = min(self._most, most)

    def put(self, out: Outgoing) -> Confirmation:
        """Send `out` when its turn comes."""
        confirmation: Confirmation = self._loop.create_future()
        if self._is_closed:
            confirmation.set_result(None)
            return confirmation
        self._line.append((out, confirmation))
        self._fill()
        return confirmation

    def confirm(self, packet_id: int, reason: int) -> None:
        """Take a confirmation."""
        if confirmation := self._flight.pop(packet_id, None):
            confirmation.set_result(reason)
            # Not from inside the library's callback: it has not let go of the message yet.
            self._loop.call_soon(self._fill)

    def close(self) -> None:
        """Know that no confirmation will come any more."""
        self._is_closed = True
        for confirmation in [*self._flight.values(), *(waiting for _, waiting in self._line)]:
            confirmation.set_result(None)
        self._flight.clear()
        self._line.clear()

    async def idle(self) -> None:
        """Return when everything is confirmed, or never will be."""
        while pending := [*self._flight.values(), *(waiting for _, waiting in self._line)]:
            await asyncio.wait(pending)

    def _fill(self) -> None:
        while self._line and len(self._flight) < self._most:
            out, confirmation = self._line.popleft()
            packet_id = self._publish(out)
            if packet_id is None:
                confirmation.set_result(None)
            else:
                self._flight[packet_id] = confirmation
