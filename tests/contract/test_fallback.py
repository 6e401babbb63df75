"""The whole daemon beside a peer: who answers what, over HTTP and MQTT, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.broker import LocalBroker
from tests.daemon_process import PATIENCE_S, Served, serving
from tests.requester import Requester
from tests.serving.peers.double import MODEL, Double, Fault
from tests.serving.peers.house import TEXT
from tests.worker.text_engine import DIE, DIE_FIRST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TEXT_DAEMON = Path(__file__).parents[1] / "text_daemon.py"
RELAY = {"EDGE_AGENT_MODEL": "null"}
# Less than the daemon itself takes: memory is critical from the first look.
NO_MEMORY = {"EDGE_AGENT_MEMORY__BUDGET": "2MB"}


class Home:
    """A running daemon, its peer, and a client."""

    def __init__(self, daemon: Served, peer: Double, session: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.peer = peer
        self._session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self.daemon.url + path) as answer:
            return answer.status, await answer.text()

    async def look(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.get(path))[1])
        return found

    async def chat(self, prompt: str, **fields: object) -> tuple[aiohttp.ClientResponse, str]:
        body = {"messages": [{"role": "user", "content": prompt}], **fields}
        url = f"{self.daemon.url}/v1/chat/completions"
        async with self._session.post(url, json=body) as answer:
            return answer, await answer.text()


@asynccontextmanager
async def home(
    directory: Path, tells: dict[str, object] | None = None, /, **environ: str
) -> AsyncIterator[Home]:
    """Run a daemon with a text engine beside an OpenAI-style peer called attic, which `tells`."""
    async with Double("openai") as peer, aiohttp.ClientSession() as session:
        peer.tells |= tells or {}
        peers = [{"name": "attic", "kind": "openai", "zone": "site", "model": MODEL}]
        settings = json.dumps([{**each, "url": peer.url} for each in peers])
        command = [sys.executable, str(TEXT_DAEMON)]
        with serving(command, directory, EDGE_AGENT_PEERS=settings, **environ) as daemon:
            there = Home(daemon, peer, session)
            await until(lambda: answers(there))
            yield there


async def answers(there: Home) -> bool:
    """Return whether all that can happen at a start has happened."""
    health = await there.look("/health")
    is_settled = health["state"] in {"ready", "relay", "held"}
    return is_settled and "attic" in health["answers"] and bool(there.peer.probed)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # what is waited for knows no events
            await asyncio.sleep(0.02)


def source(answer: aiohttp.ClientResponse) -> tuple[str | None, str | None]:
    return answer.headers.get("X-Edge-Served-By"), answer.headers.get("X-Edge-Reason")


def content(text: str) -> str:
    found: str = json.loads(text)["choices"][0]["message"]["content"]
    return found


async def test_an_appliance_without_a_model_answers_by_its_peer(tmp_path: Path) -> None:
    async with home(tmp_path, **RELAY) as there:
        whole, text = await there.chat("hello", model=MODEL)
        assert (whole.status, source(whole)) == (200, ("attic", "no-local-model"))
        assert (content(text), json.loads(text)["model"]) == (TEXT, MODEL)
        streamed, text = await there.chat("hello", stream=True)
        assert source(streamed) == ("attic", "no-local-model")
        assert text.endswith("data: [DONE]\n\n")

        health = await there.look("/health")
        assert (health["state"], health["status"], health["model"]) == ("relay", "healthy", MODEL)
        assert (await there.look("/ready"))["by"] == ["attic"]
        [model] = (await there.look("/v1/models"))["data"]
        assert (model["id"], model["max_model_len"]) == (MODEL, None)


async def test_when_its_only_peer_is_gone_it_says_so_at_once(tmp_path: Path) -> None:
    async with home(tmp_path, **RELAY) as there:
        await there.peer.down()
        for _ in range(6):  # five failures open the breaker
            answer, text = await there.chat("hello")
            assert answer.status == 503
            assert json.loads(text)["error"]["code"] == "unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await there.get("/health"))[0] == 503
        status, text = await there.get("/ready")
        assert status == 503
        assert json.loads(text)["reasons"][0].startswith("no-local-model")
        [peer] = (await there.look("/health"))["peers"]
        assert (peer["name"], peer["breaker"]) == ("attic", "open")


async def test_what_only_the_peer_has_room_for_goes_there(tmp_path: Path) -> None:
    async with home(tmp_path) as there:
        answer, text = await there.chat("word " * 2000)  # here there are 1,000 tokens
        assert (content(text), source(answer)) == (TEXT, ("attic", "too-large"))
        there.peer.fault = Fault(
            status=400, body=b'{"error": {"message": "maximum context length is 1500 tokens"}}'
        )
        refused, text = await there.chat("word " * 2000)
        assert refused.status == 400
        error = json.loads(text)["error"]
        assert error["code"] == "context_length_exceeded"
        assert "the limit is 999" in error["message"]


async def test_what_its_only_peer_has_no_room_for_is_refused_and_not_sent(tmp_path: Path) -> None:
    short = {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 512}]}
    async with home(tmp_path, {"/v1/models": short}, **RELAY) as there:

        async def is_known() -> bool:
            [peer] = (await there.look("/health"))["peers"]
            return bool(peer["context_tokens"] == 512)

        await until(is_known)
        [model] = (await there.look("/v1/models"))["data"]
        assert model["max_model_len"] == 512
        refused, text = await there.chat("word " * 5000)
        assert refused.status == 400
        assert "Retry-After" not in refused.headers
        error = json.loads(text)["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert "peer 'attic' has a context of 512 tokens" in error["message"]
        assert not there.peer.bodies


async def test_the_peer_answers_when_memory_is_short(tmp_path: Path) -> None:
    async with home(tmp_path, **NO_MEMORY) as there:
        answer, text = await there.chat("hello")
        assert (content(text), source(answer)) == (TEXT, ("attic", "pressure"))
        health = await there.look("/health")
        assert (health["memory"]["level"], health["state"]) == ("critical", "held")
        assert health["memory"]["bound"] == "budget"
        refused, text = await there.chat("stay", policy="local")
        assert (refused.status, json.loads(text)["error"]["code"]) == (503, "memory_pressure")
        metrics = (await there.get("/metrics"))[1]
        assert "edge_agent_pressure_level 3.0" in metrics
        assert 'edge_agent_refusals_total{reason="pressure"} 1.0' in metrics
        assert 'edge_agent_peer_breaker{peer="attic",state="closed"} 1.0' in metrics
        assert (
            'edge_agent_requests_total{outcome="stop",reason="pressure",served_by="attic"} 1.0'
            in metrics
        )


async def test_a_crash_before_the_first_word_is_taken_over(tmp_path: Path) -> None:
    async with home(tmp_path) as there:
        for stream in (False, True):
            await until(lambda: is_ready(there))
            answer, text = await there.chat(DIE_FIRST, stream=stream)
            assert (answer.status, source(answer)) == (200, ("attic", "crashed"))
            assert "Paris" in text
        await until(lambda: is_ready(there))
        back, text = await there.chat("one two")
        assert (content(text), source(back)) == ("0:two 1:one ", ("local", "local"))


async def test_a_crash_after_the_first_word_is_told_and_not_patched(tmp_path: Path) -> None:
    async with home(tmp_path) as there:
        answer, text = await there.chat(f"{DIE} and more", stream=True)
        assert (answer.status, source(answer)) == (200, ("local", "local"))
        assert "0:more" in text
        assert "engine_crashed" in text
        assert "Paris" not in text
        assert not there.peer.bodies


@pytest.mark.parametrize("prompt", [DIE_FIRST, DIE])
async def test_what_is_local_stays_here_whatever_happens(tmp_path: Path, prompt: str) -> None:
    async with home(tmp_path) as there:
        answer, text = await there.chat(f"{prompt} x", policy="local")
        assert (answer.status, json.loads(text)["error"]["code"]) == (503, "engine_crashed")
        assert not there.peer.bodies


async def test_a_request_that_came_through_gateways_is_not_passed_on_again(
    tmp_path: Path,
) -> None:
    async with home(tmp_path, **RELAY) as there:
        there.peer.fault = Fault()
        url = f"{there.daemon.url}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "x"}]}
        async with there._session.post(url, json=body, headers={"X-Edge-Hops": "2"}) as answer:
            assert answer.status == 403
        async with there._session.post(
            url, json=body, headers={"X-Edge-Policy": "local"}
        ) as answer:
            assert answer.status == 503
        assert not there.peer.bodies


async def is_ready(there: Home) -> bool:
    """Return whether the engine takes requests."""
    return bool((await there.look("/health"))["state"] == "ready")


async def test_a_result_over_mqtt_says_who_gave_it(tmp_path: Path) -> None:
    base = "edge/v1/gw1"
    with LocalBroker(tmp_path) as broker:
        mqtt = {"EDGE_AGENT_MQTT__URL": broker.url, "EDGE_AGENT_MQTT__NODE": "gw1"}
        async with home(tmp_path / "home", **RELAY, **mqtt) as there:
            with Requester(broker.url, f"{base}/response/#", f"{base}/status") as requester:
                request = {"id": "a", "prompt": "hello"}
                await asyncio.to_thread(requester.send, f"{base}/request", request)
                [heard] = await asyncio.to_thread(requester.hear, id="a", type="result")
                [status] = await asyncio.to_thread(requester.hear, state="online")
            assert there.peer.bodies
    result = heard.body
    assert (result["served_by"], result["reason"]) == ("attic", "no-local-model")
    assert result["text"] == TEXT
    assert status.body["ready"] == ["attic"]
    assert status.body["peers"] == {"attic": "closed"}
    assert status.body["pressure"] in {"calm", "soft", "hard", "critical"}
