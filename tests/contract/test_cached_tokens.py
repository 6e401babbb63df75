"""Both wires tell how much of a prompt was known, whichever of them it first came by."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker import LocalBroker
from tests.daemon_process import PATIENCE_S, Served, serving
from tests.requester import Requester

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

SERVE = [sys.executable, "-m", "edge_agent", "serve"]
BASE = "edge/v1/gw1"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def daemon(model_home: Path, broker: LocalBroker, tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "models").symlink_to(model_home / "models")
    mqtt = {"EDGE_AGENT_MQTT__URL": broker.url, "EDGE_AGENT_MQTT__NODE": "gw1"}
    with serving(SERVE, tmp_path, **mqtt) as daemon:
        daemon.wait_ready()
        yield daemon


def body_of(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": 3, "temperature": 0}


def usage_over_http(url: str, prompt: str) -> dict[str, Any]:
    body = json.dumps(body_of(prompt)).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310  # loopback
        usage: dict[str, Any] = json.load(answer)["usage"]
    return usage


def test_what_was_read_over_one_wire_is_known_on_the_other(
    daemon: Served, broker: LocalBroker
) -> None:
    manual = "The pump stops when the tank is full. " * 10
    first = usage_over_http(daemon.url, manual + "When does it stop?")
    with Requester(broker.url, f"{BASE}/response/#") as requester:
        body = {**body_of(manual + "What stops?"), "id": "q1"}
        requester.send(f"{BASE}/request", body)
        [result] = requester.hear(1, type="result", id="q1")

    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    second = result.body["usage"]
    assert second["prompt_tokens_details"]["cached_tokens"] > second["prompt_tokens"] * 0.8
