from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.config import Mqtt
from edge_agent.errors import ConfigError
from edge_agent.transports.mqtt.broker import Broker
from edge_agent.transports.mqtt.wire import Address, Outgoing
from tests.serving.scripted import until

WILL = Outgoing(address=Address(topic="edge/status"), body=b"{}", is_retained=True)


def broker(**mqtt: Any) -> Broker:
    return Broker(Mqtt(**mqtt), "edge-agent-gw1", WILL)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker.site", "broker.site:1883"),
        ("mqtts://broker.site", "broker.site:8883"),
        ("mqtt://10.0.0.1:9000", "10.0.0.1:9000"),
        ("mqtt://[::1]:1884", "::1:1884"),
    ],
)
def test_a_url_names_host_and_port(url: str, expected: str) -> None:
    assert str(broker(url=url)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker",
        "http://broker",
        "mqtt://",
        "mqtt://h:99999",
        "mqtt://h/path",
        "mqtt://user:pw@h",
    ],
)
def test_a_url_that_cannot_be_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.url"):
        broker(url=url)


@pytest.mark.parametrize("key", ["password_file", "ca_file", "cert_file"])
async def test_a_file_that_is_not_there_is_a_failed_connection_and_not_a_crash(key: str) -> None:
    missing = broker(url="mqtts://127.0.0.1:1", **{key: "/nowhere/at/all"})

    with pytest.raises(OSError, match="No such file"):
        await missing.dial(MQTTProtocolVersion.MQTTv5)


async def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        await broker(url="mqtt://127.0.0.1:1").dial(MQTTProtocolVersion.MQTTv311)


async def test_giving_up_does_not_wait_for_a_broker_that_swallows_packets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialling, may_end = threading.Event(), threading.Event()

    def swallow(*_: object) -> None:
        dialling.set()
        may_end.wait(60)
        raise TimeoutError

    monkeypatch.setattr(Broker, "_connect", swallow)
    task = asyncio.create_task(broker(url="mqtt://10.0.0.1").dial(MQTTProtocolVersion.MQTTv5))
    await until(dialling.is_set)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    [thread] = [thread for thread in threading.enumerate() if thread.name == "mqtt-dial"]
    assert thread.daemon, "the interpreter must not wait for it either"
    may_end.set()
    await until(lambda: not thread.is_alive())
