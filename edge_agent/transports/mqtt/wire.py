"""Messages of the wire as plain values, free of the client library.

`Address` is what the journal keeps for us: where the answer to a request goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.dialects.envelope import CONTENT_TYPE

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

# Fixed header, lengths, packet id, and the properties whose size does not vary.
OVERHEAD_BYTES = 64


class Address(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an answer goes, and what its receiver recognises it by."""

    topic: str
    correlation: bytes | None = None

    def encode(self) -> bytes:
        """Return the address as the journal keeps it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Address:
        """Return the address in `raw`."""
        return msgspec.msgpack.decode(raw, type=cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message from the broker; the properties are those of MQTT 5, empty before it."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    is_retained: bool = False
    is_redelivery: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    content_type: str | None = None
    expiry_s: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, message: MQTTMessage) -> Incoming:
        """Return `message` as the library hands it over.

        Raises:
            UnicodeDecodeError: its topic is not UTF-8.
        """
        found = message.properties
        return cls(
            topic=message.topic,
            payload=bytes(message.payload),
            qos=message.qos,
            packet_id=message.mid,
            is_retained=message.retain,
            is_redelivery=message.dup,
            response_topic=getattr(found, "ResponseTopic", None),
            correlation=getattr(found, "CorrelationData", None),
            content_type=getattr(found, "ContentType", None),
            expiry_s=getattr(found, "MessageExpiryInterval", None),
            user_properties=tuple(getattr(found, "UserProperty", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message for the broker."""

    address: Address
    body: bytes
    is_retained: bool = False

    @property
    def size_bytes(self) -> int:
        """The packet on the wire, at most."""
        correlation = self.address.correlation or b""
        return len(self.body) + len(self.address.topic.encode()) + len(correlation) + OVERHEAD_BYTES

    def properties(self) -> Properties:
        """Return what MQTT 5 says beside the body."""
        properties = new_properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.PayloadFormatIndicator = 1
        if self.address.correlation is not None:
            properties.CorrelationData = self.address.correlation
        return properties


def new_properties(packet_type: int) -> Properties:
    """Return an empty set of MQTT 5 properties."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]
