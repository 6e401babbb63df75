"""The MQTT surface: stays connected to one broker and serves requests through it.

The broker is a wire, not a store: what we acknowledge is on our disk, and what we have to say
stays there until the broker has confirmed it. Without the broker everything else goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.errors import Busy
from edge_agent.serving.tasks import ended, watched
from edge_agent.transports.mqtt import status
from edge_agent.transports.mqtt.broker import Broker
from edge_agent.transports.mqtt.connection import Connection, Lost
from edge_agent.transports.mqtt.deltas import DeltaStream
from edge_agent.transports.mqtt.drops import Drops
from edge_agent.transports.mqtt.intake import Intake
from edge_agent.transports.mqtt.outbox import Outbox
from edge_agent.transports.mqtt.reading import MOST_CORRELATION_BYTES, SOURCE
from edge_agent.transports.mqtt.session import Session
from edge_agent.transports.mqtt.status import Presence
from edge_agent.transports.mqtt.topics import MOST_REPLY_TOPIC_BYTES, Topics
from edge_agent.transports.mqtt.wire import OVERHEAD_BYTES, Address, Outgoing
from edge_agent.worker.backoff import wait_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Config
    from edge_agent.ops.health import Health
    from edge_agent.serving.job import Job
    from edge_agent.serving.jobs import Jobs
    from edge_agent.transports.mqtt.connection import Welcome
    from edge_agent.transports.mqtt.session import Retained

logger = logging.getLogger(__name__)

# A broker that was restarted is found again at once; after a power cut at a site the spread keeps
# its gateways from arriving in the same second, and the cap from hammering a broker for days.
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 60.0
# A connection that held so long was good: the next failure is a new story.
STABLE_S = 10.0
# From TCP to the last SUBACK; a broker on a slow link takes seconds.
HANDSHAKE_LIMIT_S = 15.0
# Part of the daemon's shutdown: results on the wire may still be confirmed.
FAREWELL_S = 3.0
# CONNACK: unsupported protocol version, as MQTT 5 and as 3.1.1 say it.
_WRONG_VERSION = {0x84, 0x01}


class MqttClient:
    """Our side of the broker."""

    def __init__(self, config: Config, jobs: Jobs, health: Callable[[], Health]) -> None:
        """Check the configuration; without `mqtt.url` there is no MQTT.

        Raises:
            ConfigError: URL, base topic or a reply filter cannot be used.
        """
        self.drops = Drops()
        self._config = config
        self._jobs = jobs
        self._health = health
        self._topics = Topics.of(config)
        # Milliseconds of the wall clock: later lives have higher numbers, and need no file.
        self._epoch = time.time_ns() // 1_000_000
        self._broker = self._new_broker() if config.mqtt.url else None
        self._packet_limit_bytes = config.mqtt.max_packet_bytes
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._refuses_v5 = False
        self._hang_ups = 0

    @property
    def state(self) -> str:
        """`off`, `connected` or `disconnected`."""
        if self._broker is None:
            return "off"
        return "connected" if self._session else "disconnected"

    @property
    def largest_body_bytes(self) -> int:
        """The largest result that can be sent, whatever its reply topic."""
        beside = MOST_REPLY_TOPIC_BYTES + MOST_CORRELATION_BYTES + OVERHEAD_BYTES
        return self._packet_limit_bytes - beside

    async def start(self) -> None:
        """Begin to connect; returns at once, the broker may be away."""
        if self._broker:
            self._jobs.attach(self)
            self._task = watched(self._stay_connected(self._broker), "mqtt")

    def drain(self) -> None:
        """Take no more requests; they wait at the broker for the next daemon."""
        if self._session:
            self._session.stop_taking()

    async def close(self) -> None:
        """Deliver what is ready, within `FAREWELL_S`, publish `stopped` and disconnect."""
        if self._session:
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._session.farewell()
        await ended(self._task)

    def deltas(self, job: Job) -> DeltaStream:
        """Return where the deltas of one attempt go."""
        return DeltaStream(
            job,
            interval_s=self._config.mqtt.delta_interval_s,
            offer=self._offer,
            is_congested=lambda: (
                self._session is not None and self._session.connection.is_congested
            ),
        )

    def result_ready(self, seq: int) -> None:
        """Know that a result waits to be sent (again)."""
        if self._session:
            self._session.outbox.result_ready(seq)

    def _offer(self, out: Outgoing) -> None:
        if self._session and out.size_bytes <= self._packet_limit_bytes:
            self._session.connection.offer(out)

    def _new_broker(self) -> Broker:
        config = self._config
        will = Outgoing(
            address=Address(topic=self._topics.status),
            body=status.will(self._epoch),
            is_retained=True,
        )
        client_id = config.mqtt.client_id or f"edge-agent-{config.node}"
        return Broker(config.mqtt, client_id, will)

    async def _stay_connected(self, broker: Broker) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_s = loop.time()
            why = await self._live_once(broker)
            is_new_story = loop.time() - began_s >= STABLE_S
            failures = 1 if is_new_story else failures + 1
            pause_s = wait_s(
                failures,
                first_s=FIRST_WAIT_S,
                longest_s=LONGEST_WAIT_S,
                chance=random.random(),  # noqa: S311  # spreads reconnects, guards nothing
            )
            level = logging.WARNING if failures == 1 else logging.DEBUG
            logger.log(level, "broker lost broker=%s why=%s again_in_s=%.2f", broker, why, pause_s)
            await asyncio.sleep(pause_s)

    async def _live_once(self, broker: Broker) -> str:
        """Connect and serve until the connection is over; return why it is."""
        intake = Intake(self._config, self._topics, self._jobs, self.drops)
        try:
            connection = await self._dial(broker, intake)
        except (OSError, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT_S):
                welcome = await self._shake_hands(connection)
            self._session = self._new_session(connection, welcome, intake)
            logger.info("broker connected broker=%s v5=%s", broker, connection.is_v5)
            return await self._session.run()
        except Lost as exc:
            return str(exc)
        except TimeoutError:
            return f"no handshake within {HANDSHAKE_LIMIT_S:.0f} s"
        finally:
            self._session = None
            connection.abandon()

    async def _dial(self, broker: Broker, intake: Intake) -> Connection:
        """Open a connection, in the version that this broker is known or supposed to speak."""
        is_old = self._refuses_v5 or self._hang_ups % 2 == 1
        version = MQTTProtocolVersion.MQTTv311 if is_old else MQTTProtocolVersion.MQTTv5
        return Connection(await broker.dial(version), intake.put, self.drops.add)

    async def _shake_hands(self, connection: Connection) -> Welcome:
        try:
            welcome = await connection.welcome()
        except Lost:
            # Some brokers hang up on a version that they do not know: try the other one.
            self._hang_ups += 1
            raise
        if welcome.reason:
            self._refuses_v5 = self._refuses_v5 or welcome.reason in _WRONG_VERSION
            msg = f"refused: {welcome.reason_text}"
            raise Lost(msg)
        if not welcome.has_session:
            with suppress(Busy):
                await self._jobs.forget_packet_ids(SOURCE)
        await connection.subscribe([self._topics.request, self._topics.cancel])
        return welcome

    def _new_session(self, connection: Connection, welcome: Welcome, intake: Intake) -> Session:
        configured = self._config.mqtt.max_packet_bytes
        self._packet_limit_bytes = min(configured, welcome.largest_packet_bytes or configured)
        outbox = Outbox(self._jobs, self.drops, connection, self._packet_limit_bytes)
        return Session(
            connection, intake, outbox, tell=self._tell, keeps_retained=welcome.keeps_retained
        )

    def _tell(self, presence: Presence) -> Retained:
        """Return what is to be retained while we are there, or from when we are not."""
        health = self._health()
        now = status.status(presence, epoch=self._epoch, health=health, problem=self._jobs.problem)
        if presence is not Presence.ONLINE:
            return {self._topics.status: now}
        about = status.info(self._config, self._topics, health)
        return {self._topics.status: now, self._topics.info: about}
