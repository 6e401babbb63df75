"""A gateway whose processor cannot run the engine: peers answer, or it says plainly why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.daemon_process import serving, until

TEXT_DAEMON = Path(__file__).parents[1] / "text_daemon.py"
WRONG = [sys.executable, str(TEXT_DAEMON), "--wrong-processor"]
LACKS = "this processor lacks instructions that the engine needs (killed by SIGILL)"


def test_a_peer_answers_and_health_says_why(tmp_path: Path) -> None:
    with serving([sys.executable, str(TEXT_DAEMON)], tmp_path / "attic") as attic:
        attic.wait_ready()
        model = attic.health()["model"]
        peer = {"name": "attic", "kind": "openai", "url": attic.url, "model": model, "zone": "site"}
        with serving(WRONG, tmp_path / "home", EDGE_AGENT_PEERS=json.dumps([peer])) as served:
            served.wait_ready()
            until(lambda: "attic" in served.health()["answers"])
            health = served.health()
            assert (health["state"], health["detail"]) == ("relay", LACKS)
            assert health["obstacles"] == [f"no-local-model: {LACKS}"]
            status, answer = served.ask("one two")
            assert status == 200
            assert answer["choices"][0]["message"]["content"].strip() == "0:two 1:one"
            status, refusal = served.ask("one two", policy="local")
            assert status == 503
            assert LACKS in refusal["error"]["message"]


def test_without_peers_it_has_failed_and_says_why(tmp_path: Path) -> None:
    with serving(WRONG, tmp_path) as served:
        until(lambda: served.health()["state"] == "failed")
        assert served.health()["detail"] == LACKS
        status, refusal = served.ask("one two")
        assert status == 503
        assert LACKS in refusal["error"]["message"]
