"""One life of the wire, from CONNECT to its end; it is never used again.

Because the object is the connection's epoch, an acknowledgement can only go where its message came
from: packet ids start anew in every session, and one sent to a later session would make the broker
forget a message that nobody has seen. All methods belong to the event loop, where the client
library reads and writes the socket; it never blocks there.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from edge_agent.transports.mqtt.driver import Driver
from edge_agent.transports.mqtt.window import MOST_IN_FLIGHT, Window
from edge_agent.transports.mqtt.wire import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import (
        Client,
        ConnectFlags,
        MQTTMessage,
        MQTTMessageInfo,
    )
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_agent.transports.mqtt.window import Confirmation
    from edge_agent.transports.mqtt.wire import Outgoing

logger = logging.getLogger(__name__)

# From here on a reason code is a failure (MQTT 5, 2.4).
FAILURE = 0x80


class Lost(Exception):
    """The connection is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What the broker said in CONNACK."""

    reason: int
    reason_text: str
    has_session: bool = False
    most_in_flight: int = MOST_IN_FLIGHT
    largest_packet_bytes: int | None = None
    keeps_retained: bool = True


class Connection:
    """A client that is connected, or was."""

    def __init__(
        self, client: Client, on_message: Callable[[Incoming], None], on_bad: Callable[[str], None]
    ) -> None:
        """Take over `client`, whose CONNECT is sent; call `on_bad` with what had to be dropped."""
        self._client = client
        self._on_message = on_message
        self._on_bad = on_bad
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._subscription: asyncio.Future[int] = self._loop.create_future()
        self._window = Window(self._publish_confirmed)
        self._driver = driver = Driver(client, on_end=self._end, on_bad=on_bad)
        self.pause, self.resume = driver.pause, driver.resume
        client.on_connect = driver.guarded(self._connected)
        client.on_message = driver.guarded(self._arrived)
        client.on_publish = driver.guarded(self._confirmed)
        client.on_subscribe = driver.guarded(self._subscribed)
        driver.start()

    @property
    def is_v5(self) -> bool:
        """Whether properties and reason codes exist."""
        return self._client.protocol == MQTTProtocolVersion.MQTTv5

    @property
    def is_lost(self) -> bool:
        """Whether it is over."""
        return self._lost.done()

    @property
    def in_line(self) -> int:
        """Messages that wait until earlier ones are confirmed."""
        return self._window.waiting

    @property
    def is_congested(self) -> bool:
        """Whether the socket has not taken what was written last."""
        return self._client.want_write()

    async def welcome(self) -> Welcome:
        """Return what the broker answers to CONNECT.

        Raises:
            Lost: it hung up instead.
        """
        first: set[asyncio.Future[Any]] = {self._welcome, self._lost}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not self._welcome.done():
            raise Lost(self._lost.result())
        welcome = self._welcome.result()
        self._window.narrow(welcome.most_in_flight)
        return welcome

    async def lost(self) -> str:
        """Return why the connection ended, once it has."""
        return await asyncio.shield(self._lost)

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for `topics` at QoS 1; a publisher's QoS 2 becomes 1, which can be held back.

        Raises:
            Lost: the broker refused one of them, or hung up.
        """
        self._client.subscribe([(topic, 1) for topic in topics])
        first: set[asyncio.Future[Any]] = {self._subscription, self._lost}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not self._subscription.done():
            raise Lost(self._lost.result())
        if (reason := self._subscription.result()) >= FAILURE:
            msg = f"the broker refuses a subscription, reason {reason:#x}"
            raise Lost(msg)

    def send(self, out: Outgoing) -> Confirmation:
        """Publish at QoS 1, after what is in line already."""
        return self._window.put(out)

    def post(self, out: Outgoing) -> None:
        """Publish at QoS 1 and let the confirmation come when it comes."""
        _ = self._window.put(out)

    def offer(self, out: Outgoing) -> None:
        """Publish at QoS 0; nobody will know whether it arrived."""
        if not self.is_lost:
            self._publish(out, qos=0)

    def acknowledge(self, message: Incoming) -> None:
        """Tell the broker that `message`, which came over this connection, is ours now."""
        if message.qos and not self.is_lost:
            self._client.ack(message.packet_id, message.qos)

    async def idle(self) -> None:
        """Return when everything sent is confirmed, or the connection is over."""
        await self._window.idle()

    def disconnect(self) -> None:
        """Say goodbye: the broker will not publish our will."""
        if not self.is_lost:
            self._client.disconnect()
            self._client.loop_write()
            self._driver.end("closed by us")

    def abandon(self) -> None:
        """Close the socket without a word: the broker publishes our will."""
        self._driver.end("given up")

    def _connected(
        self,
        _client: Client,
        _data: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if self._welcome.done():
            return
        most = getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT)
        self._welcome.set_result(
            Welcome(
                reason=reason.value,
                reason_text=str(reason),
                has_session=flags.session_present,
                most_in_flight=min(MOST_IN_FLIGHT, most),
                largest_packet_bytes=getattr(properties, "MaximumPacketSize", None),
                keeps_retained=getattr(properties, "RetainAvailable", 1) == 1,
            )
        )

    def _arrived(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            incoming = Incoming.of(message)
        except UnicodeDecodeError:
            self._on_bad("topic")
            self._client.ack(message.mid, message.qos)
            return
        self._on_message(incoming)

    def _confirmed(
        self,
        _client: Client,
        _data: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._window.confirm(mid, reason.value)

    def _subscribed(
        self,
        _client: Client,
        _data: object,
        _mid: int,
        reasons: Sequence[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if not self._subscription.done():
            self._subscription.set_result(max(reason.value for reason in reasons))

    def _publish_confirmed(self, out: Outgoing) -> int | None:
        info = self._publish(out, qos=1)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def _publish(self, out: Outgoing, *, qos: int) -> MQTTMessageInfo:
        return self._client.publish(
            out.address.topic,
            out.body,
            qos=qos,
            retain=out.is_retained,
            properties=out.properties() if self.is_v5 else None,
        )

    def _end(self, why: str) -> None:
        self._lost.set_result(why)
        self._window.close()
