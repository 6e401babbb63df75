"""Runs the client library on the event loop: its socket, its clock, its callbacks.

The library is made for a thread of its own or for a loop like this one; on the loop there is no
lock, and every call into it comes from one place at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import TYPE_CHECKING, cast

from paho.mqtt.enums import MQTTErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client

logger = logging.getLogger(__name__)

# The library counts keep-alive in seconds.
MISC_S = 1.0


class Driver:
    """Reads, writes and pings for a client that is connected, until one of these fails."""

    def __init__(
        self, client: Client, *, on_end: Callable[[str], None], on_bad: Callable[[str], None]
    ) -> None:
        """Take over `client`; `on_end` is told once why it is over, `on_bad` what was hidden."""
        self._client = client
        self._on_end = on_end
        self._on_bad = on_bad
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | ssl.SSLSocket | None = None
        self._is_reading = False
        self._is_over = False
        self._misc: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to read and write."""
        client = self._client
        client.on_disconnect = self.guarded(lambda *args: self.end(str(args[3])))
        client.on_socket_close = self.guarded(lambda *_: self._forget_socket())
        client.on_socket_register_write = self.guarded(lambda *_: self._write_when_possible())
        client.on_socket_unregister_write = self.guarded(lambda *_: self._stop_writing())
        self._socket = cast("socket.socket | ssl.SSLSocket | None", client.socket())
        if self._socket is None:
            self.end("closed at once")
            return
        # An acknowledgement and the answer behind it are two small writes: without this the second
        # waits for the peer's delayed ACK of the first, 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.resume()
        if client.want_write():
            self._write_when_possible()
        self._misc = self._loop.call_later(MISC_S, self._keep_alive)

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return `callback` with its bugs counted and logged: the library would hide them."""

        def call(*args: object) -> None:
            try:
                callback(*args)
            except Exception:
                logger.exception("bug in a callback of the wire")
                self._on_bad("callback")

        return call

    def pause(self) -> None:
        """Read no more, until `resume`: the broker waits, and memory is bounded."""
        if self._is_reading and self._socket:
            self._loop.remove_reader(self._socket)
        self._is_reading = False

    def resume(self) -> None:
        """Read on."""
        if not self._is_reading and self._socket:
            self._loop.add_reader(self._socket, self._read)
            self._is_reading = True
            # Bytes that TLS has decrypted already do not make the socket readable.
            self._loop.call_soon(self._read)

    def end(self, why: str) -> None:
        """Close the socket, if it is open, and tell why; only the first call does anything."""
        if self._is_over:
            return
        self._is_over = True
        if self._misc:
            self._misc.cancel()
        open_socket = self._socket
        self._forget_socket()
        if open_socket:
            open_socket.close()
        self._on_end(why)

    def _read(self) -> None:
        """Read what is there; TLS may hold more than the socket shows."""
        try:
            status = self._client.loop_read()
            while (
                status == MQTTErrorCode.MQTT_ERR_SUCCESS
                and self._is_reading
                and isinstance(self._socket, ssl.SSLSocket)
                and self._socket.pending()
            ):
                status = self._client.loop_read()
        except Exception:
            logger.warning("malformed packet from the broker", exc_info=True)
            self._on_bad("packet")
            self.end("malformed packet")
        else:
            if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self.end(f"read: {status.name}")

    def _write(self) -> None:
        status = self._client.loop_write()
        if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.end(f"write: {status.name}")

    def _keep_alive(self) -> None:
        self._misc = self._loop.call_later(MISC_S, self._keep_alive)
        if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.end("no answer to ping")

    def _write_when_possible(self) -> None:
        if self._socket:
            self._loop.add_writer(self._socket, self._write)

    def _stop_writing(self) -> None:
        if self._socket:
            self._loop.remove_writer(self._socket)

    def _forget_socket(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket = None
        self._is_reading = False
