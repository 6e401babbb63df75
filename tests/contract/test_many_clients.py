"""Eight clients at once, over HTTP and MQTT, streamed and whole: each gets its own answer."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import pytest

from edge_agent.modelstore.store import ModelStore
from tests.broker import LocalBroker
from tests.conftest import MODEL
from tests.daemon_process import PATIENCE_S, Served, serving
from tests.real.greedy import GreedyModel, may_be_answer, text_of
from tests.requester import Requester

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

SERVE = [sys.executable, "-m", "edge_agent", "serve"]
BASE = "edge/v1/gw1"
ANSWER_TOKENS = 16
# One row a client; the rows are asked one after the other, the clients all at once.
QUESTIONS = [
    ("What is the capital of France?", "Write a haiku about rain."),
    ("Name three fruits.", "What is a gateway?"),
    ("Why is the sky blue?", "Who wrote Hamlet?"),
    ("What is 7 plus 5?", "What is MQTT?"),
    ("What does a thermostat do?", "Give me a rhyme for moon."),
    ("How do bees make honey?", "Name a large river."),
    ("Explain what a sensor is. " * 12, "Why do cats purr?"),
    ("What is a transistor?", "Summarize: the pump was off, the tank ran dry. " * 8),
]


class Ask(Protocol):
    """One way to ask: the text of the answer, from a client of its own."""

    def __call__(self, prompt: str, *, stream: bool) -> str: ...


@pytest.fixture(scope="module")
def alone(model_home: Path) -> GreedyModel:
    return GreedyModel(ModelStore(model_home).package(MODEL))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def daemon(
    model_home: Path, broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(model_home / "models")
    mqtt = {"EDGE_AGENT_MQTT__URL": broker.url, "EDGE_AGENT_MQTT__NODE": "gw1"}
    with serving(SERVE, home, **mqtt) as daemon:
        daemon.wait_ready()
        yield daemon


def body_of(prompt: str, *, stream: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": prompt}]
    return {
        "messages": messages,
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "stream": stream,
    }


class HttpClient:
    """Asks over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"

    def __call__(self, prompt: str, *, stream: bool) -> str:
        body = json.dumps(body_of(prompt, stream=stream)).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310  # loopback
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310  # loopback
            if stream:
                return "".join(_pieces(answer))
            return str(json.load(answer)["choices"][0]["message"]["content"])


def _pieces(lines: Iterator[bytes]) -> Iterator[str]:
    data = [line.removeprefix(b"data: ").strip() for line in lines if line.startswith(b"data: ")]
    assert data[-1] == b"[DONE]"
    for chunk in map(json.loads, data[:-1]):
        yield from (choice["delta"].get("content") or "" for choice in chunk["choices"])


class MqttClient:
    """Asks over MQTT, with a reply topic of its own."""

    def __init__(self, name: str, requester: Requester) -> None:
        self._reply_to = f"{BASE}/response/{name}"
        self._requester = requester
        self._asked: list[str] = []

    def __call__(self, prompt: str, *, stream: bool) -> str:
        name = uuid.uuid4().hex
        self._asked.append(name)
        body = {**body_of(prompt, stream=stream), "id": name, "reply_to": self._reply_to}
        self._requester.send(f"{BASE}/request", body)
        [result] = self._requester.hear(1, type="result", id=name)
        text = str(result.body["text"])
        deltas = [delta.body for delta in self._requester.heard(type="delta", id=name)]
        assert [delta["seq"] for delta in deltas] == list(range(result.body["seq"]))
        assert "".join(delta["text"] for delta in deltas) == (text if stream else "")
        # Nothing but what this client asked for has ever come to its topic.
        assert {message.body["id"] for message in self._requester.heard()} == set(self._asked)
        return text


@pytest.fixture
def clients(daemon: Served, broker: LocalBroker) -> Iterator[list[Ask]]:
    """Return eight clients, every second one on MQTT."""
    names = [f"client{number}" for number in range(4)]
    requesters = [Requester(broker.url, f"{BASE}/response/{name}/#") for name in names]
    with requesters[0], requesters[1], requesters[2], requesters[3]:
        mqtt = [MqttClient(name, it) for name, it in zip(names, requesters, strict=True)]
        yield [ask for one in mqtt for ask in (HttpClient(daemon.url), one)]


def test_eight_at_once_get_what_each_would_get_alone(
    clients: list[Ask], alone: GreedyModel
) -> None:
    start = threading.Barrier(len(clients))

    def life(number: int) -> list[str]:
        start.wait(PATIENCE_S)
        is_streaming = number // 2 % 2 == 0  # two of HTTP, two of MQTT
        return [clients[number](prompt, stream=is_streaming) for prompt in QUESTIONS[number]]

    with ThreadPoolExecutor(len(clients)) as pool:
        together = list(pool.map(life, range(len(clients))))

    texts = set()
    num_different = 0
    for prompts, answers in zip(QUESTIONS, together, strict=True):
        for prompt, answer in zip(prompts, answers, strict=True):
            choices = alone.choices(prompt, ANSWER_TOKENS)
            texts.add(text_of(choices))
            num_different += answer != text_of(choices)
            assert may_be_answer(answer, choices), f"{answer!r} where {text_of(choices)!r} was due"
    # Where all answers differ, each is known to be of the one who asked.
    assert len(texts) == sum(map(len, QUESTIONS))
    print(f"{num_different} of {len(texts)} answers parted at a near tie")  # noqa: T201  # a figure


def test_the_judge_hears_alone_what_the_daemon_answers_alone(
    clients: list[Ask], alone: GreedyModel
) -> None:
    for client, prompt in zip(clients[:4], QUESTIONS[0] + QUESTIONS[6], strict=True):
        assert client(prompt, stream=False) == text_of(alone.choices(prompt, ANSWER_TOKENS))
