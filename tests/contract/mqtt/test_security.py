"""TLS both ways and credentials, as a broker beyond the own machine asks for them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.mqtt.house import REQUEST, MqttHouse, config_for, mqtt_house
from tests.proxy import Proxy
from tests.serving.scripted import ScriptedBackend, until

if TYPE_CHECKING:
    from tests.broker import LocalBroker
    from tests.requester import Requester

CERTS = Path(__file__).parent / "certs"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def server_side() -> ssl.SSLContext:
    """Return TLS as a broker has it that wants to see a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(CERTS / "ca.pem"))
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_broker_behind_tls_is_reached_with_a_client_certificate(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with Proxy(broker.port, tls=server_side()) as proxy:
        config = config_for(
            proxy.url,
            ca_file=str(CERTS / "ca.pem"),
            cert_file=str(CERTS / "client.pem"),
            key_file=str(CERTS / "client.key"),
        )
        async with mqtt_house(config, tmp_path / "home"):
            # Large enough for several TLS records, sent in one go with others behind it.
            long = {"messages": [{"role": "user", "content": "y" * 200_000}], "id": "long"}
            await asyncio.to_thread(requester.send, REQUEST, long)
            for number in range(10):
                await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": f"n{number}"})
            results = await asyncio.to_thread(requester.hear, 11, type="result")

    assert {len(result.body["text"]) for result in results} == {5, 200_000}


# The client library does not close the socket of a failed handshake; it goes with its frames.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_no_known_authority_vouches_for_is_not_spoken_to(
    broker: LocalBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Proxy(broker.port, tls=server_side()) as proxy:
        house = MqttHouse(config_for(proxy.url), tmp_path / "home", ScriptedBackend())
        await house.journal.open()
        await house.client.start()
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        await house.client.close()
        await house.journal.close()

    assert proxy.heads == []
    assert house.client.state == "disconnected"


async def test_user_and_password_are_sent_and_the_password_is_read_from_its_file(
    broker: LocalBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret-pässword\n")
    async with Proxy(broker.port) as proxy:
        config = config_for(proxy.url, username="gateway", password_file=str(secret))
        async with mqtt_house(config, tmp_path / "home"):
            pass

    assert proxy.heads[0].endswith(b"\x00\x07gateway\x00\x10" + "s3cret-pässword".encode())
    assert "s3cret" not in caplog.text
