"""Whatever is killed, no accepted request is lost and none has two answers.

The bulk runs on an engine process whose answers are known beforehand: the promise is that of the
journal, the wire and the supervisor, and a text that is known can be told from another's. The
same storm, smaller, then runs on the real model. More of it, over an hour:
`pytest -m long tests/chaos`.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests import text_daemon
from tests.broker import LocalBroker
from tests.chaos.checker import explained, violations
from tests.chaos.storm import DEBIAN, ENVIRON, Strength, blows, rage
from tests.chaos.victims import MortalDaemon
from tests.worker.text_engine import answer_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.chaos

TEXT_DAEMON = [sys.executable, text_daemon.__file__, "--slots=4", "--pace-s=0.02"]
FAST = Strength(prompts=200, daemons=10, engines=5, brokers=3, limit_s=240)
LONG = Strength(prompts=2000, daemons=50, engines=20, brokers=10, limit_s=1800)


def prompt_of(name: str, num_words: int) -> str:
    """Return a prompt whose every word says whose it is."""
    return " ".join(f"{name}.{i}" for i in range(num_words))


def text_requests(chance: random.Random, num_prompts: int) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "id": name,
            "messages": [{"role": "user", "content": prompt_of(name, chance.randint(2, 30))}],
            "stream": chance.random() < 0.5,
        }
        for name in (f"t{i:04}" for i in range(num_prompts))
    }


def prompt_in(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def stored_results(home: Path) -> dict[str, bytes]:
    """Return what the journal holds; every job in it must be done."""
    with sqlite3.connect(home / "journal.db") as journal:
        rows = journal.execute("SELECT id, state, result FROM job").fetchall()
    journal.close()
    assert {state for _, state, _ in rows} == {"done"}
    return {name: body for name, _, body in rows}


@pytest.mark.parametrize(
    "strength",
    [
        pytest.param(FAST, marks=pytest.mark.timeout(300), id="fast"),
        pytest.param(LONG, marks=[pytest.mark.timeout(2000), pytest.mark.long], id="long"),
    ],
)
def test_no_accepted_request_is_lost_and_none_has_two_answers(
    strength: Strength, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable, guards nothing
    requests = text_requests(chance, strength.prompts)
    expected = {name: answer_of(prompt_in(request)) for name, request in requests.items()}

    def is_answer(name: str, text: str, is_all: bool) -> bool:
        return text == expected[name] if is_all else expected[name].startswith(text)

    broker = LocalBroker(tmp_path, more=DEBIAN.format(directory=tmp_path))
    environ = {**ENVIRON, "EDGE_AGENT_MQTT__URL": broker.url}
    with broker, MortalDaemon(TEXT_DAEMON, tmp_path / "home", environ) as daemon:
        client = rage(
            requests,
            blows(chance, strength),
            daemon=daemon,
            broker=broker,
            limit_s=strength.limit_s,
        )
        assert daemon.stop() == 0

    problems = violations(client.history, is_answer)
    assert not problems, explained(client.history, problems)
    assert [final for final in client.finals.values() if final.text is None] == []
    heard = {name: final.body for name, final in client.finals.items()}
    assert stored_results(daemon.home) == heard
