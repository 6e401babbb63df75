"""A broker and a requester for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker import LocalBroker
from tests.contract.mqtt.house import BASE
from tests.requester import Requester

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def requester(broker: LocalBroker) -> Iterator[Requester]:
    with Requester(broker.url, f"{BASE}/response/#", f"{BASE}/status", f"{BASE}/info") as requester:
        yield requester
