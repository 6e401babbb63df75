"""A broker that sends what no broker should: the connection ends, the daemon does not."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from edge_agent.transports.mqtt import client as client_module
from tests.contract.mqtt.house import MqttHouse, config_for
from tests.serving.scripted import ScriptedBackend, until

if TYPE_CHECKING:
    from pathlib import Path

CONNACK = bytes([0x20, 3, 0, 0, 0])
SUBACK = bytes([0x90, 5, 0, 1, 0, 1, 1])
BLOBS = {
    "garbage": b"\xff" * 64,
    "half a packet, then nothing": bytes([0x30, 0x20, 0, 5]) + b"a",
    "a length that never ends": bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    "PUBLISH whose topic is longer than itself": bytes([0x32, 4, 0xFF, 0xFF, 0, 1]),
    "PUBLISH with properties cut off": bytes([0x32, 8, 0, 1]) + b"a" + bytes([0, 1, 0x7F, 1, 2]),
    "PUBLISH with an unknown property": bytes([0x32, 9, 0, 1])
    + b"a"
    + bytes([0, 1, 2, 0xEE, 1, 0]),
    "PUBLISH on a topic that is no UTF-8": bytes([0x32, 6, 0, 1, 0xFF, 0, 1, 0]),
    "PUBACK for nothing": bytes([0x40, 2, 0x30, 0x39]),
    "a second CONNACK": CONNACK,
    "a second SUBACK": SUBACK,
    "SUBACK without reasons": bytes([0x90, 3, 0, 1, 0]),
    "DISCONNECT with a reason": bytes([0xE0, 2, 0x8E, 0]),
    "noise": hashlib.shake_128(b"noise").digest(500),
}


class HostileBroker:
    """Says CONNACK and SUBACK, then one blob, to every client; keeps what it hears."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError):
            await reader.read(4096)
            writer.write(CONNACK)
            await reader.read(4096)
            writer.write(SUBACK + self.blob)
            await writer.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while await reader.read(4096):
                        pass
        writer.transport.abort()


@pytest.mark.parametrize("blob", BLOBS.values(), ids=BLOBS.keys())
async def test_a_broker_that_misbehaves_is_left_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob: bytes
) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(client_module, "LONGEST_WAIT_S", 0.02)
    broker = HostileBroker(blob)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    house = MqttHouse(config_for(f"mqtt://127.0.0.1:{port}"), tmp_path, ScriptedBackend())
    await house.journal.open()
    await house.client.start()
    try:
        await until(lambda: broker.connections >= 3)
        assert house.client._task
        assert not house.client._task.done()
    finally:
        await house.client.close()
        await house.journal.close()
        server.close()
