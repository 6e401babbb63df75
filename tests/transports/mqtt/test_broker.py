from __future__ import annotations

from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.config import Mqtt
from edge_agent.errors import ConfigError
from edge_agent.transports.mqtt.broker import Broker
from edge_agent.transports.mqtt.wire import Address, Outgoing

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
def test_a_file_that_is_not_there_is_a_failed_connection_and_not_a_crash(key: str) -> None:
    missing = broker(url="mqtts://127.0.0.1:1", **{key: "/nowhere/at/all"})

    with pytest.raises(OSError, match="No such file"):
        missing.dial(MQTTProtocolVersion.MQTTv5)


def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        broker(url="mqtt://127.0.0.1:1").dial(MQTTProtocolVersion.MQTTv311)
