"""A requester that wants its answers whatever dies, and writes down all that it does and hears.

Its rule is the one that the wire contract gives to requesters: an id that was not accepted is sent
again, the same bytes; an accepted one is waited for. Only when the broker itself was lost, and with
it perhaps messages that it had taken, is every open id sent again.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.chaos.history import Accepted, Delta, Entry, Final, Outage, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paho.mqtt.client import MQTTMessage

# A daemon that was killed is back and has answered by then, mostly; asking twice does no harm.
PATIENCE_S = 1.5
CONNECT_LIMIT_S = 20.0


class PatientClient:
    """Asks `requests` (bodies by id), at most `window` at once, until all are answered."""

    def __init__(
        self, url: str, base: str, requests: Mapping[str, dict[str, Any]], *, window: int
    ) -> None:
        self.history: list[Entry] = []
        self.finals: dict[str, Final] = {}
        self._requests = requests
        self._window = window
        self._base = base
        self._unsent = deque(requests)
        self._due_s: dict[str, float] = {}
        """Open ids, and when to ask again; never, once accepted."""
        self._is_up = False
        self._news = threading.Condition()
        self._where = urlsplit(url)
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"patient-{uuid.uuid4().hex}",  # not every broker gives a name
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.on_subscribe = lambda *_: self._back()
        self._client.on_disconnect = lambda *_: self._cut()
        self._client.on_message = self._take

    def __enter__(self) -> Self:
        host, port = self._where.hostname or "", self._where.port or 0
        self._client.connect(host, port, clean_start=True)
        self._client.loop_start()
        with self._news:
            assert self._news.wait_for(lambda: self._is_up, CONNECT_LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_done(self) -> bool:
        """Whether every request has its terminal message."""
        return len(self.finals) == len(self._requests)

    @property
    def open(self) -> list[str]:
        """Ids that were sent and have no terminal message."""
        with self._news:
            return list(self._due_s)

    def mark_outage(self) -> None:
        """Note that deltas may be lost around now."""
        with self._news:
            self.history.append(Outage())

    def tend(self, *, wait_s: float) -> None:
        """Send what is due, then wait a moment for something to happen."""
        for name in self._due():
            self._client.publish(f"{self._base}/request", json.dumps(self._requests[name]), qos=1)
        with self._news:
            self._news.wait(wait_s)

    def _due(self) -> list[str]:
        """Return what is to be sent now; it is in the history before anyone can answer it."""
        now_s = time.monotonic()
        with self._news:
            if not self._is_up:
                return []
            while self._unsent and len(self._due_s) < self._window:
                self._due_s[self._unsent.popleft()] = now_s
            due = [name for name, due_s in self._due_s.items() if due_s <= now_s]
            for name in due:
                self._due_s[name] = now_s + PATIENCE_S
                self.history.append(Sent(name, bool(self._requests[name].get("stream"))))
        return due

    def _subscribe(self) -> None:
        self._client.subscribe(f"{self._base}/response/+", 1)

    def _back(self) -> None:
        with self._news:
            self._is_up = True
            self._due_s = dict.fromkeys(self._due_s, 0.0)
            self._news.notify_all()

    def _cut(self) -> None:
        with self._news:
            self._is_up = False
            self.history.append(Outage())

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._news:
            entry = _read(bytes(message.payload))
            self.history.append(entry)
            if isinstance(entry, Accepted) and entry.id in self._due_s:
                self._due_s[entry.id] = float("inf")
            if isinstance(entry, Final):
                self.finals.setdefault(entry.id, entry)
                self._due_s.pop(entry.id, None)
            self._news.notify_all()


def _read(payload: bytes) -> Accepted | Delta | Final:
    body = json.loads(payload)
    if body["type"] == "accepted":
        return Accepted(body["id"])
    if body["type"] == "delta":
        return Delta(body["id"], body["attempt"], body["seq"], body["text"])
    assert body["type"] in {"result", "error"}, body
    return Final(body["id"], body["attempt"], body["seq"], payload, body.get("text"))
