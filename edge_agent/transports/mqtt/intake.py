"""Takes messages from one connection, in order: to disk, then PUBACK, then the answer.

A message is acknowledged only when the journal has it or when it has been refused; one that could
not be handled to the end stays the broker's, which sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING

from edge_agent.dialects import envelope
from edge_agent.errors import Busy, EdgeError, InvalidRequest
from edge_agent.messages import Failed
from edge_agent.transports.mqtt.reading import SOURCE, Refusal, read_request
from edge_agent.transports.mqtt.wire import Address, Outgoing

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.serving.job import Draft
    from edge_agent.serving.jobs import Jobs
    from edge_agent.transports.mqtt.connection import Connection
    from edge_agent.transports.mqtt.drops import Drops
    from edge_agent.transports.mqtt.topics import Topics
    from edge_agent.transports.mqtt.wire import Incoming

logger = logging.getLogger(__name__)

# What arrives faster than the disk takes it waits in the socket, beyond these. (Mosquitto 2.0.11
# was seen to send on past the receive maximum that we ask for.)
PAUSE_AT_MESSAGES = 64
RESUME_AT_MESSAGES = 16
PAUSE_AT_BYTES = 8 << 20
# A broker that confirms nothing while it sends: beyond this, requests are taken without a word.
MOST_REPLIES = 1000


class Intake:
    """The way in, for the life of one connection."""

    def __init__(self, config: Config, topics: Topics, jobs: Jobs, drops: Drops) -> None:
        self._config = config
        self._topics = topics
        self._jobs = jobs
        self._drops = drops
        self._arrived: asyncio.Queue[Incoming] = asyncio.Queue()
        self._waiting_bytes = 0
        self._connection: Connection | None = None

    def put(self, message: Incoming) -> None:
        """Take `message` as it arrives; when too many wait, the socket is read no further."""
        self._arrived.put_nowait(message)
        self._waiting_bytes += len(message.payload)
        is_full = (
            self._waiting_bytes >= PAUSE_AT_BYTES or self._arrived.qsize() >= PAUSE_AT_MESSAGES
        )
        if self._connection and is_full:
            self._connection.pause()

    async def run(self, connection: Connection) -> None:
        """Handle the messages of `connection`, until cancelled."""
        self._connection = connection
        while True:
            message = await self._arrived.get()
            self._waiting_bytes -= len(message.payload)
            if self._arrived.qsize() <= RESUME_AT_MESSAGES and self._waiting_bytes < PAUSE_AT_BYTES:
                connection.resume()
            await self._handle(message, connection)

    async def _handle(self, message: Incoming, connection: Connection) -> None:
        replies: list[Outgoing] = []
        if message.is_retained:
            # Stored by someone, once, for everyone: nobody waits for an answer now.
            self._drops.add("retained")
        elif message.topic == self._topics.request:
            replies = await self._request(message)
        elif message.topic == self._topics.cancel:
            await self._cancel(message)
        else:
            self._drops.add("topic")
        connection.acknowledge(message)
        for reply in replies:
            if connection.in_line < MOST_REPLIES:
                connection.post(reply)
            else:
                self._drops.add("reply")

    async def _request(self, message: Incoming) -> list[Outgoing]:
        read = read_request(
            message, fresh_id=uuid.uuid4().hex, config=self._config, topics=self._topics
        )
        if isinstance(read, Refusal):
            return [_refused(read.request_id, read.address, read.error)]
        return await self._submit(read)

    async def _submit(self, draft: Draft) -> list[Outgoing]:
        try:
            taken, before = await self._jobs.submit(draft)
        except EdgeError as exc:
            return [_refused(draft.request.id, Address.decode(draft.address), exc)]
        if taken.is_done:
            return []  # its result is on the way, again
        ticket = taken.ticket
        eta_s = self._jobs.expected_wait_s(before)
        body = envelope.accepted(ticket.id, attempt=ticket.attempt, position=before, eta_s=eta_s)
        return [Outgoing(address=Address.decode(taken.address), body=body)]

    async def _cancel(self, message: Incoming) -> None:
        try:
            job_id = envelope.cancelled_id(message.payload, self._config.limits)
        except InvalidRequest:
            self._drops.add("cancel_malformed")
            return
        correlation = message.correlation
        if job_id is None and not correlation:
            self._drops.add("cancel_malformed")
            return
        try:
            is_known = await self._jobs.cancel(SOURCE, job_id=job_id, correlation=correlation)
        except Busy:
            is_known = False
        if not is_known:
            self._drops.add("cancel_unknown")


def _refused(request_id: str, address: Address, error: EdgeError) -> Outgoing:
    logger.info("request refused id=%s code=%s", request_id, error.code)
    body = envelope.error(request_id, seq=0, attempt=1, failed=Failed.of(error))
    return Outgoing(address=address, body=body)
