"""Sends results from the journal until the broker has confirmed them, connection after connection.

It keeps nothing but numbers: a result is read from disk to be sent and marked there when confirmed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from edge_agent.errors import Busy
from edge_agent.transports.mqtt.connection import FAILURE
from edge_agent.transports.mqtt.wire import Address, Outgoing

if TYPE_CHECKING:
    from edge_agent.serving.job import Result
    from edge_agent.serving.jobs import Jobs
    from edge_agent.transports.mqtt.connection import Connection
    from edge_agent.transports.mqtt.drops import Drops
    from edge_agent.transports.mqtt.window import Confirmation

logger = logging.getLogger(__name__)

# As many as a connection may hold unconfirmed: more would only be read and wait.
BATCH = 20
# A disk that cannot be read is asked again so often.
AGAIN_S = 1.0


class Outbox:
    """The way out, for the life of one connection."""

    def __init__(self, jobs: Jobs, drops: Drops, connection: Connection, limit_bytes: int) -> None:
        self._jobs = jobs
        self._drops = drops
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._news = asyncio.Event()
        self._sent: set[int] = set()
        """On the wire, or of no use to send on this connection."""
        self._shrunk: set[int] = set()
        self._pending: set[Confirmation] = set()
        self._confirmed: asyncio.Queue[tuple[int, int | None]] = asyncio.Queue()

    def result_ready(self, seq: int) -> None:
        """Send the result of job `seq`, even if it is on the wire: it was asked for again."""
        self._sent.discard(seq)
        self._news.set()

    async def empty(self) -> None:
        """Return when all that there is has been sent and confirmed, or cannot be."""
        while True:
            await self._connection.idle()
            await self._confirmed.join()
            try:
                if self._connection.is_lost or not await self._jobs.outbox(1, self._sent):
                    return
            except Busy:
                return
            await asyncio.sleep(0)

    async def send_all(self) -> None:
        """Send results as they come, until cancelled."""
        while True:
            self._news.clear()
            try:
                batch = await self._jobs.outbox(BATCH, self._sent)
            except Busy:
                await asyncio.sleep(AGAIN_S)
                continue
            for result in batch:
                await self._send(result)
            if not batch:
                await self._news.wait()
            elif self._pending and self._connection.in_line:
                # The next are read when one of these is through: memory holds a batch or two.
                await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)

    async def note_confirmed(self) -> None:
        """Mark confirmed results as published, until cancelled."""
        while True:
            seq, reason = await self._confirmed.get()
            await self._note(seq, reason)
            self._confirmed.task_done()

    async def _note(self, seq: int, reason: int | None) -> None:
        if reason is None:
            return  # the connection ended first; the next one sends it again
        if reason >= FAILURE:
            # Not a reason to hammer the broker: the next connection tries again.
            self._drops.add(f"refused_{reason:#x}")
            return
        # If the disk fails now, the next connection sends it again, identical.
        with suppress(Busy):
            await self._jobs.published(seq)
            self._sent.discard(seq)

    async def _send(self, result: Result) -> None:
        out = Outgoing(address=Address.decode(result.address), body=result.body)
        if out.size_bytes > self._limit_bytes:
            await self._shrink(result)
            return
        self._sent.add(result.seq)
        confirmation = self._connection.send(out)
        self._pending.add(confirmation)

        def confirmed(_: Confirmation) -> None:
            self._pending.discard(confirmation)
            self._confirmed.put_nowait((result.seq, confirmation.result()))

        confirmation.add_done_callback(confirmed)

    async def _shrink(self, result: Result) -> None:
        """Put an error in the place of a result that this broker would hang up over."""
        if result.seq in self._shrunk:
            self._sent.add(result.seq)
            self._drops.add("result_too_large")
            return
        self._shrunk.add(result.seq)
        try:
            await self._jobs.shrink(result, self._limit_bytes)
        except Busy:
            self._sent.add(result.seq)
