"""How to reach the broker: address, credentials, TLS, and the CONNECT packet."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from edge_agent.errors import ConfigError
from edge_agent.transports.mqtt.wire import new_properties

if TYPE_CHECKING:
    from edge_agent.config import Mqtt
    from edge_agent.transports.mqtt.wire import Outgoing

# A broker on the same site answers within a second; a black-holed address is given up soon.
CONNECT_LIMIT_S = 10.0
# What is over `max_payload_bytes` gets an answer, up to this; beyond, an MQTT 5 broker drops it
# before it is in our memory.
LARGEST_INCOMING_BYTES = 16 << 20
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Broker:
    """The broker that the configuration names."""

    def __init__(self, config: Mqtt, client_id: str, will: Outgoing) -> None:
        """Read the address.

        Raises:
            ConfigError: `mqtt.url` is not one of ours.
        """
        self._config = config
        self._client_id = client_id
        self._will = will
        self._host, self._port, self._is_tls = _address(config.url or "")

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    async def dial(self, version: MQTTProtocolVersion) -> Client:
        """Open the socket and send CONNECT.

        Raises:
            OSError: no connection, or a file with secrets or certificates is no good.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Client] = loop.create_future()

        def settle(client: Client | None, problem: Exception | None) -> None:
            if answer.done():
                return  # nobody waits any more
            if client:
                answer.set_result(client)
            elif problem:
                answer.set_exception(problem)

        def work() -> None:
            client = problem = None
            try:
                client = self._dial(version)
            except Exception as exc:  # noqa: BLE001  # handed over, and raised where it is awaited
                # The library leaves the socket of a failed handshake open, held by these frames.
                traceback.clear_frames(exc.__traceback__)
                problem = exc
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, client, problem)

        # Name look-up, TCP and TLS block. Not in the loop's own threads: the daemon would wait for
        # them at its end, and a broker that swallows packets takes its time.
        Thread(target=work, name="mqtt-dial", daemon=True).start()
        return await answer

    def _dial(self, version: MQTTProtocolVersion) -> Client:
        client = self._client(version)
        self._connect(client)
        return client

    def _client(self, version: MQTTProtocolVersion) -> Client:
        """Return a client that is ready to connect; the files with secrets are read each time."""
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            # MQTT 5 says it in `clean_start`; without a session, queued requests are lost.
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else False,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        # An exception in a callback would end the loop that reads the socket; ours are counted.
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_LIMIT_S
        self._identify(client)
        properties = None
        if version == MQTTProtocolVersion.MQTTv5:
            properties = new_properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = self._config.will_delay_s
        client.will_set(
            self._will.address.topic, self._will.body, qos=1, retain=True, properties=properties
        )
        return client

    def _connect(self, client: Client) -> None:
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = new_properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._config.session_expiry_s
            properties.ReceiveMaximum = self._config.receive_maximum
            properties.MaximumPacketSize = max(
                LARGEST_INCOMING_BYTES, 2 * self._config.max_payload_bytes
            )
            client.connect(
                self._host,
                self._port,
                self._config.keepalive_s,
                # The library's default starts a clean session after each start of the process.
                clean_start=False,
                properties=properties,
            )
        else:
            client.connect(self._host, self._port, self._config.keepalive_s)

    def _identify(self, client: Client) -> None:
        config = self._config
        password = None
        if config.password_file:
            password = Path(config.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        if config.username or password is not None:
            client.username_pw_set(config.username, password)
        if self._is_tls:
            context = ssl.create_default_context(cafile=config.ca_file)
            if config.cert_file:
                context.load_cert_chain(config.cert_file, config.key_file)
            client.tls_set_context(context)


def _address(url: str) -> tuple[str, int, bool]:
    where = "mqtt.url"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(where, str(exc)) from exc
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(where, "must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(where, "credentials belong into mqtt.username and mqtt.password_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(where, "must end after the port")
    return parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts"
