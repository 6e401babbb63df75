"""A wire that tests can cut: a TCP relay to a broker, with a doorman for protocol versions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.loopback import Loopback

if TYPE_CHECKING:
    import ssl

_CONNECT = 1
_TYPE_SHIFT = 4
_V5 = 5
# CONNACK of a broker that knows MQTT 3.1.1 only: unacceptable protocol version.
_REFUSED = bytes([0x20, 2, 0, 1])


class Proxy(Loopback):
    """Relays one port to another while it is up."""

    def __init__(
        self,
        target_port: int,
        *,
        refuses_v5: bool = False,
        hangs_up_on_v5: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.versions: list[int] = []
        self.heads: list[bytes] = []
        """The CONNECT packets as they came."""
        self._target_port = target_port
        self._refuses_v5 = refuses_v5
        self._hangs_up_on_v5 = hangs_up_on_v5

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self.port}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _connect_packet(reader)
        version = head[head.index(b"MQTT") + 4]
        self.heads.append(head)
        self.versions.append(version)
        if version == _V5 and self._refuses_v5:
            writer.write(_REFUSED)
            await writer.drain()
            return
        if version == _V5 and self._hangs_up_on_v5:
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        there_writer.write(head)
        both = [
            asyncio.create_task(_copy(reader, there_writer)),
            asyncio.create_task(_copy(there_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            there_writer.transport.abort()


async def _connect_packet(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    assert head[0] >> _TYPE_SHIFT == _CONNECT
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
    length = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(head[1:]))
    return head + await reader.readexactly(length)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
