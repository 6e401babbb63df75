"""Whatever is killed, no accepted request is lost and none has two answers.

The bulk runs on an engine process whose answers are known beforehand: the promise is that of the
journal, the wire and the supervisor, and a text that is known can be told from another's to the
last word. The same storm, smaller, then runs on the real model. Much more of both:
`pytest -m long tests/chaos`. A failed storm prints its seed, EDGE_TEST_CHAOS_SEED.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.modelstore.store import ModelStore
from tests import text_daemon
from tests.broker import LocalBroker
from tests.chaos.checker import explained, violations
from tests.chaos.storm import DEBIAN, ENVIRON, Strength, blows, rage
from tests.chaos.victims import MortalDaemon
from tests.conftest import MODEL
from tests.real.greedy import GreedyModel, may_be_answer
from tests.worker.text_engine import answer_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.chaos.checker import Judge

pytestmark = pytest.mark.chaos

TEXT_DAEMON = [sys.executable, text_daemon.__file__, "--slots=4", "--pace-s=0.02"]
REAL_DAEMON = [sys.executable, "-m", "edge_agent", "serve"]

TEXT_FAST = Strength(prompts=200, daemons=10, engines=5, brokers=3, limit_s=400)
TEXT_LONG = Strength(prompts=2000, daemons=50, engines=20, brokers=10, limit_s=1800)
REAL_FAST = Strength(prompts=100, daemons=5, engines=3, brokers=2, limit_s=400)
REAL_LONG = Strength(prompts=600, daemons=25, engines=12, brokers=6, limit_s=1800)

fast = pytest.mark.timeout(450)
long = [pytest.mark.timeout(2000), pytest.mark.long]

QUESTIONS = [
    "What is the capital of France?",
    "Name three fruits.",
    "Why is the sky blue?",
    "What is 7 plus 5?",
    "Who wrote Hamlet?",
    "What is MQTT?",
    "How do bees make honey?",
    "What does a thermostat do?",
]
REAL_ANSWER_TOKENS = 12


def requests_of(
    chance: random.Random, prompts: Sequence[str], **fields: object
) -> dict[str, dict[str, Any]]:
    """Return a request for each prompt by its id, half of them streamed."""
    return {
        name: {
            "id": name,
            "messages": [{"role": "user", "content": prompt}],
            "stream": chance.random() < 0.5,
            **fields,
        }
        for name, prompt in ((f"c{number:04}", prompt) for number, prompt in enumerate(prompts))
    }


def prompt_in(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def storm(
    daemon: MortalDaemon,
    broker: LocalBroker,
    requests: dict[str, dict[str, Any]],
    is_answer: Judge,
    strength: Strength,
    chance: random.Random,
) -> None:
    """Ask and kill, then judge what was heard and what the journal holds."""
    with broker, daemon:
        planned = blows(chance, strength)
        client = rage(requests, planned, daemon=daemon, broker=broker, limit_s=strength.limit_s)
        assert daemon.stop() == 0

    problems = violations(client.history, is_answer)
    assert not problems, explained(client.history, problems)
    assert [final for final in client.finals.values() if final.text is None] == []
    heard = {name: final.body for name, final in client.finals.items()}
    assert stored_results(daemon.home) == heard


def stored_results(home: Path) -> dict[str, bytes]:
    """Return what the journal holds; every job in it must be done."""
    with sqlite3.connect(home / "journal.db") as journal:
        rows = journal.execute("SELECT id, state, result FROM job").fetchall()
    journal.close()
    assert {state for _, state, _ in rows} == {"done"}
    return {name: body for name, _, body in rows}


@pytest.fixture
def broker(tmp_path: Path) -> LocalBroker:
    return LocalBroker(tmp_path, more=DEBIAN.format(directory=tmp_path))


def mortal(command: Sequence[str], home: Path, broker: LocalBroker) -> MortalDaemon:
    return MortalDaemon(command, home, {**ENVIRON, "EDGE_AGENT_MQTT__URL": broker.url})


@pytest.mark.parametrize(
    "strength",
    [
        pytest.param(TEXT_FAST, marks=fast, id="fast"),
        pytest.param(TEXT_LONG, marks=long, id="long"),
    ],
)
def test_no_accepted_request_is_lost_and_none_has_two_answers(
    strength: Strength, broker: LocalBroker, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable, guards nothing
    # Every word says whose it is.
    prompts = [
        " ".join(f"c{number}.{word}" for word in range(chance.randint(2, 30)))
        for number in range(strength.prompts)
    ]
    requests = requests_of(chance, prompts)
    expected = {name: answer_of(prompt_in(request)) for name, request in requests.items()}

    def is_answer(name: str, text: str, is_all: bool) -> bool:
        return text == expected[name] if is_all else expected[name].startswith(text)

    daemon = mortal(TEXT_DAEMON, tmp_path / "home", broker)
    storm(daemon, broker, requests, is_answer, strength, chance)


@pytest.mark.real
@pytest.mark.parametrize(
    "strength",
    [
        pytest.param(REAL_FAST, marks=fast, id="fast"),
        pytest.param(REAL_LONG, marks=long, id="long"),
    ],
)
def test_the_real_model_gives_the_answers_it_would_give_in_peace(
    strength: Strength, broker: LocalBroker, model_home: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable, guards nothing
    prompts = chance.choices(QUESTIONS, k=strength.prompts)
    requests = requests_of(chance, prompts, temperature=0, max_tokens=REAL_ANSWER_TOKENS)
    model = GreedyModel(ModelStore(model_home).package(MODEL))

    def is_answer(name: str, text: str, is_all: bool) -> bool:
        choices = model.choices(prompt_in(requests[name]), REAL_ANSWER_TOKENS)
        return may_be_answer(text, choices, is_all=is_all)

    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(model_home / "models")
    daemon = mortal(REAL_DAEMON, home, broker)
    storm(daemon, broker, requests, is_answer, strength, chance)
