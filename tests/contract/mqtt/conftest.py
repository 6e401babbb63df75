"""A broker and a requester for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.broker import LocalBroker
from tests.contract.mqtt.house import BASE
from tests.requester import Requester

TOPICS = (f"{BASE}/response/#", f"{BASE}/status", f"{BASE}/info")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def requester(broker: LocalBroker) -> Iterator[Requester]:
    with Requester(broker.url, *TOPICS) as requester:
        yield requester


@pytest.fixture
def v4_broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path, kind="v4") as broker:
        yield broker


@pytest.fixture
def v4_requester(v4_broker: LocalBroker) -> Iterator[Requester]:
    with Requester(v4_broker.url, *TOPICS, version=MQTTProtocolVersion.MQTTv311) as requester:
        yield requester
