"""Random requests over both wires, and how each of them ends: an answer or a clear refusal."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.patient_client import PatientClient
from tests.worker.text_engine import answer_of

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    import aiohttp

    from tests.chaos.history import Final

LOCAL = "local"
# What a refused client is told: each says what is wrong, and that it may come back or never can.
REFUSALS = {
    "busy",
    "context_length_exceeded",
    "deadline_exceeded",
    "engine_crashed",
    "expired",
    "insufficient_memory",
    "loading",
    "memory_pressure",
    "overloaded",
    "peer_failed",
    "peer_refused",
    "too_large",
    "unavailable",
}
_WORDS = ("bees", "honey", "winter", "broker", "valve", "Paris", "seven", "meter", "why", "how")
_LONGEST_ANSWER_TOKENS = 6
# Who insists on the model here waits for it, in a test not for minutes.
_LOCAL_DEADLINE_S = 8.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: who answered (`local`, a peer's name), or the code of the refusal."""

    name: str
    by: str | None = None
    code: str | None = None

    @property
    def kind(self) -> str:
        """One word for it."""
        return self.by or f"refused: {self.code}"


def requests_of(chance: random.Random, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a request for each of `names`: long and short, streamed and whole, bound or free."""
    return {name: _request(chance, name) for name in names}


def _request(chance: random.Random, name: str) -> dict[str, Any]:
    # Mostly short, some of hundreds of words, now and then one that fits nowhere.
    most = chance.choices([12, 150, 5000], [80, 17, 3])[0]
    words = [chance.choice(_WORDS) for _ in range(chance.randint(most // 3, most))]
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": " ".join([name, *words])}],
        "max_tokens": chance.randint(1, _LONGEST_ANSWER_TOKENS),
        "stream": chance.random() < 0.5,
        "priority": chance.choice(["high", "normal", "low"]),
    }
    if chance.random() < 0.15:
        body |= {"policy": "local", "deadline_s": _LOCAL_DEADLINE_S}
    return body


def prompt_in(request: dict[str, Any]) -> str:
    """Return what is asked."""
    return str(request["messages"][0]["content"])


def is_of_one(prompt: str, text: str) -> bool:
    """Return whether `text` is all of the peer's answer or its start, or none of it."""
    of_peer = answer_of(prompt)
    if of_peer.startswith((text, text.rstrip() + " ")):
        return True
    return not any(f"{place} " in f"{text} " for place in of_peer.split())


async def ask_http(
    session: aiohttp.ClientSession, url: str, name: str, request: dict[str, Any]
) -> Outcome:
    """Ask over HTTP.

    Raises:
        AssertionError: it ended neither in an answer nor in a clear refusal.
    """
    async with session.post(f"{url}/v1/chat/completions", json=request) as answer:
        text = await answer.text()
        by = answer.headers.get("X-Edge-Served-By")
    if answer.status != 200:
        return _refusal(name, json.loads(text)["error"], text)
    if not request["stream"]:
        told = json.loads(text)["choices"][0]["message"]["content"]
        return _answer(name, by, request, told)
    events = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    bodies = [json.loads(event) for event in events if event != "[DONE]"]
    if error := next((body["error"] for body in bodies if "error" in body), None):
        return _refusal(name, error, text)
    assert events[-1] == "[DONE]", f"{name}: a stream without its end: {text}"
    deltas = (choice["delta"] for body in bodies for choice in body["choices"])
    told = "".join(delta.get("content") or "" for delta in deltas)
    return _answer(name, by, request, told)


def _answer(name: str, by: str | None, request: dict[str, Any], text: str) -> Outcome:
    assert by, f"{name}: an answer, and nobody says whose"
    prompt = prompt_in(request)
    is_peers = by != LOCAL and answer_of(prompt).startswith(text.rstrip())
    is_ours = by == LOCAL and is_of_one(prompt, text)
    assert is_peers or is_ours, f"{name}: by {by}, but not its answer: {text}"
    return Outcome(name, by=by)


def _refusal(name: str, error: dict[str, Any], text: str) -> Outcome:
    assert error["code"] in REFUSALS, f"{name}: not a clear refusal: {text}"
    assert error["message"], text
    return Outcome(name, code=error["code"])


def outcome_of(final: Final) -> Outcome:
    """Return how a request over MQTT ended."""
    body = json.loads(final.body)
    if final.text is None:
        return _refusal(final.id, body, final.body.decode())
    return Outcome(final.id, by=body["served_by"])


class Mail:
    """All requests over MQTT, and what was heard of them."""

    def __init__(self, url: str, base: str, requests: dict[str, dict[str, Any]]) -> None:
        bodies = {name: {"id": name, **request} for name, request in requests.items()}
        self._requests = requests
        self.client = PatientClient(url, base, bodies, window=2)

    async def exchange(self) -> list[Outcome]:
        """Send them, a few at a time, and return how all have ended."""
        with self.client as client:
            while not client.is_done:
                await asyncio.to_thread(client.tend, wait_s=0.05)
        return [outcome_of(final) for final in self.client.finals.values()]

    def is_answer(self, name: str, text: str, is_all: bool) -> bool:
        """Return whether `text` can be the answer to request `name`, or its start."""
        return is_of_one(prompt_in(self._requests[name]), text)
