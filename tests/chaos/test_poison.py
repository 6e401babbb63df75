"""A request that kills the engine is tried three times, and then refused wherever it comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests import text_daemon
from tests.broker import LocalBroker
from tests.daemon_process import serving
from tests.requester import Requester
from tests.worker.text_engine import DIE, answer_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.chaos

TEXT_DAEMON = [sys.executable, text_daemon.__file__, "--slots=2", "--pace-s=0.02"]
BASE = "edge/v1/gw1"
KILLER = f"{DIE} one two three"
NEIGHBOUR = "a neighbour who has done nothing"
MAX_CRASHES = 3


def test_a_poisonous_request_is_refused_and_its_neighbour_is_answered(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker, Requester(broker.url, f"{BASE}/response/#") as requester:

        def send(name: str, prompt: str) -> None:
            body = {"id": name, "messages": [{"role": "user", "content": prompt}]}
            requester.send(f"{BASE}/request", body)

        environ = {
            "EDGE_AGENT_MQTT__URL": broker.url,
            "EDGE_AGENT_MQTT__NODE": "gw1",
            "EDGE_AGENT_ENGINE__RESTART_WAIT_S": "0.05",
        }
        with serving(TEXT_DAEMON, tmp_path / "home", **environ) as daemon:
            daemon.wait_ready()
            send("killer", KILLER)
            send("neighbour", NEIGHBOUR)
            [neighbour] = requester.hear(1, type="result")
            [poison] = requester.hear(1, type="error")
            assert neighbour.body["text"] == answer_of(NEIGHBOUR)
            assert (poison.body["id"], poison.body["code"]) == ("killer", "poison")
            assert poison.body["retryable"] is False
            assert daemon.health()["engine_restarts"] == MAX_CRASHES

            # Under another name, by another wire: it is what it asks that is remembered.
            send("killer-again", KILLER)
            [again] = requester.hear(1, type="error", id="killer-again")
            status, body = daemon.ask(KILLER)
            assert again.body["code"] == body["error"]["code"] == "poison"
            assert status >= 400
            # And under its own name it has its one result.
            send("killer", KILLER)
            assert requester.hear(2, id="killer", type="error")[1].raw == poison.raw

            assert daemon.ask(NEIGHBOUR)[0] == 200
            assert daemon.health()["engine_restarts"] == MAX_CRASHES
