"""Sends the text of running answers in few messages: joined over an interval, at QoS 0."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge_agent.dialects import envelope
from edge_agent.transports.mqtt.wire import Address, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.serving.job import Job


class DeltaStream:
    """The deltas of one attempt, numbered from 0 whether or not anyone is there to hear."""

    def __init__(
        self,
        job: Job,
        *,
        interval_s: float,
        offer: Callable[[Outgoing], None],
        is_congested: Callable[[], bool],
    ) -> None:
        self._job = job
        self._address = Address.decode(job.address)
        self._interval_s = interval_s
        self._offer = offer
        self._is_congested = is_congested
        self._loop = asyncio.get_running_loop()
        self._pieces: list[str] = []
        self._seq = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_at_s = self._loop.time()

    def push(self, text: str) -> None:
        """Take the next piece; it leaves at the end of the interval, the first one at once."""
        self._pieces.append(text)
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_at_s, self._due)

    def close(self) -> int:
        """Send what is left; return how many messages the attempt took."""
        if self._timer:
            self._timer.cancel()
        self._flush()
        return self._seq

    def _due(self) -> None:
        self._timer = None
        self._next_at_s = self._loop.time() + self._interval_s
        if self._is_congested():
            # A slow link gets fewer, longer deltas; they wait here, not in the socket's queue.
            self._timer = self._loop.call_at(self._next_at_s, self._due)
            return
        self._flush()

    def _flush(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        if not text:
            return
        body = envelope.delta(
            self._job.request.id, seq=self._seq, attempt=self._job.attempt, text=text
        )
        self._seq += 1
        self._offer(Outgoing(address=self._address, body=body))
