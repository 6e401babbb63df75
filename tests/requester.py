"""An MQTT client as our users have it: sends requests, keeps every message it hears."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.transports.mqtt.wire import new_properties

if TYPE_CHECKING:
    from types import TracebackType

    from paho.mqtt.client import MQTTMessage

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Heard:
    """One message."""

    topic: str
    raw: bytes
    qos: int
    retained: bool
    correlation: bytes | None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object in it."""
        body: dict[str, Any] = json.loads(self.raw)
        return body

    @property
    def type(self) -> str:
        """What kind of message it is."""
        return str(self.body.get("type"))


class Requester:
    """Connected from `with` to its end; subscribed to `topics`."""

    def __init__(
        self, url: str, *topics: str, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    ) -> None:
        self._where = urlsplit(url)
        self._topics = topics
        self._subscriptions = 0
        self._news = threading.Condition()
        self._heard: list[Heard] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.on_subscribe = lambda *_: self._count_subscription()

    def __enter__(self) -> Self:
        is_v5 = self._client.protocol == MQTTProtocolVersion.MQTTv5
        # After a reconnect, too, nothing is expected of the broker's memory.
        clean_start = True if is_v5 else MQTT_CLEAN_START_FIRST_ONLY
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.connect(
            self._where.hostname or "", self._where.port or 0, clean_start=clean_start
        )
        self._client.loop_start()
        self.resubscribed(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self) -> None:
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            options = SubscribeOptions(qos=1)
            self._client.subscribe([(topic, options) for topic in self._topics])
        else:
            self._client.subscribe([(topic, 1) for topic in self._topics])

    def _count_subscription(self) -> None:
        with self._news:
            self._subscriptions += 1
            self._news.notify_all()

    def resubscribed(self, times: int) -> None:
        """Return when the broker has confirmed our subscriptions so often."""
        with self._news:
            assert self._news.wait_for(lambda: self._subscriptions >= times, PATIENCE_S)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        heard = Heard(
            topic=message.topic,
            raw=bytes(message.payload),
            qos=message.qos,
            retained=message.retain,
            correlation=getattr(message.properties, "CorrelationData", None),
        )
        with self._news:
            self._heard.append(heard)
            self._news.notify_all()

    def send(
        self, topic: str, body: object, *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> None:
        """Publish `body` (bytes, text, or an object for JSON) and wait for the broker's PUBACK.

        `properties` go by their names in paho, as in `ResponseTopic="a/b"`.
        """
        payload = body if isinstance(body, bytes | str) else json.dumps(body)
        packed = None
        if properties:
            packed = new_properties(PacketTypes.PUBLISH)
            for name, value in properties.items():
                setattr(packed, name, value)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=packed)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published()

    def heard(self, **wanted: object) -> list[Heard]:
        """Return the messages whose body holds what is `wanted`, in order."""
        with self._news:
            return [message for message in self._heard if _matches(message, wanted)]

    def hear(self, count: int = 1, **wanted: object) -> list[Heard]:
        """Return the first `count` such messages, once they are there."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                found = [message for message in self._heard if _matches(message, wanted)]
                if len(found) >= count:
                    return found[:count]
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"heard {len(found)} of {count} with {wanted}: {self._heard}"
                self._news.wait(left_s)


def _matches(message: Heard, wanted: dict[str, object]) -> bool:
    try:
        body = message.body
    except ValueError:
        return not wanted
    return all(body.get(name) == value for name, value in wanted.items())
