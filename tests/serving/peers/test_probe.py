"""A probe finds out whether a peer is there, well, and has the model."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.messages import Policy
from edge_agent.serving.peers import probe
from edge_agent.serving.peers.capability import Ability, Flavour
from edge_agent.serving.peers.door import Door
from edge_agent.serving.peers.findings import Finding
from edge_agent.serving.peers.probe import look
from tests.serving.peers.double import MODEL, Double, Fault
from tests.serving.peers.house import KINDS, settings


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loaded machine be slow: the limit has a test of its own."""
    monkeypatch.setattr(probe, "LIMIT_S", 30.0)


async def found(url: str, kind: str, policy: Policy = Policy.SITE, **fields: Any) -> Finding:
    peer = settings(url, kind, **fields)
    door = Door(peer, None)
    try:
        return await look(door, peer, policy)
    finally:
        await door.close()


@pytest.mark.parametrize(("kind", "flavour"), [("ollama", "ollama"), ("openai", "vllm")])
async def test_a_peer_that_is_well(kind: str, flavour: str) -> None:
    async with Double(kind) as double:
        finding = await found(double.url, kind)
    assert finding == Finding(ability=Ability(flavour=Flavour(flavour)), names=frozenset({MODEL}))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=503), "not well"),
        (Fault(status=500, body=b"<html>"), "not well"),
        (Fault(status=302, headers={"Location": "/elsewhere"}), "not well"),
        (Fault(status=401), "does not take our key"),
        (Fault(body=b"<html>hello</html>"), "cannot be read"),
        (Fault(body=b"{}"), "cannot be read"),
        (Fault(body=b"[" * 100_000), "cannot be read"),
        (Fault(body=b'{"models": [], "data": []}'), "has no model 'phi-4-mini'; it has: none"),
        (Fault(body=b" " * (2 << 20)), "longer than"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_is_not(kind: str, fault: Fault, words: str) -> None:
    async with Double(kind) as double:
        double.sick = fault
        finding = await found(double.url, kind)
    assert finding.problem is not None
    assert words in finding.problem


@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_is_gone(kind: str) -> None:
    async with Double(kind) as double:
        pass
    finding = await found(double.url, kind)
    assert finding.problem is not None
    assert finding.problem.startswith("cannot be reached: ")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_frozen_peer_takes_no_longer_than_the_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "LIMIT_S", 0.05)
    async with Double(kind) as double:
        double.sick = Fault(freeze_after=0)
        finding = await found(double.url, kind)
    assert finding.problem == "does not answer within 0.05 s"


async def test_a_peer_that_may_not_be_reached_hears_nothing() -> None:
    async with Double("openai") as double:
        finding = await found(double.url, "openai", zone="cloud")
        assert finding.problem is not None
        assert finding.problem.startswith("is not asked: ")
        assert not double.received


async def test_a_plain_openai_server_has_neither_health_nor_list() -> None:
    async with Double("openai") as double:
        double.sick = Fault(status=404)
        assert await found(double.url, "openai") == Finding()


async def test_llama_cpp_is_asked_about_its_template() -> None:
    async with Double("openai") as double:
        double.owner = "llamacpp"
        finding = await found(double.url, "openai")
    assert finding.ability == Ability(flavour=Flavour.LLAMA_CPP, takes_tools=True)


OLLAMA = {
    "/api/tags": {"models": [{"name": f"{MODEL}:latest", "digest": "d1"}]},
    "/api/show": {"model_info": {"general.architecture": "phi3", "phi3.context_length": 131072}},
    "/api/ps": {"models": [{"name": f"{MODEL}:latest", "context_length": 8192}]},
}


@pytest.mark.parametrize(("context", "most"), [(None, 131072), (4096, 4096), (1 << 20, 131072)])
async def test_ollama_is_asked_for_its_room(context: int | None, most: int) -> None:
    async with Double("ollama") as double:
        double.tells = OLLAMA
        finding = await found(double.url, "ollama", context=context)
    assert (finding.ability.context_tokens, finding.loaded_tokens) == (most, 8192)


async def test_what_was_shown_of_a_model_holds_until_it_is_another() -> None:
    async with Double("ollama") as double:
        double.tells = dict(OLLAMA)
        peer = settings(double.url, "ollama")
        door = Door(peer, None)
        first = await look(door, peer, Policy.SITE)
        again = await look(door, peer, Policy.SITE, first)
        assert double.probed.count("/api/show") == 1
        assert again == first
        double.tells["/api/tags"] = {"models": [{"name": MODEL, "digest": "d2"}]}
        await look(door, peer, Policy.SITE, first)
        assert double.probed.count("/api/show") == 2
        await door.close()


@pytest.mark.parametrize(
    ("owner", "path", "tells", "open_requests"),
    [
        ("vllm", "/metrics", b'vllm:num_requests_running{engine="0"} 2.0\n', 2),
        ("llamacpp", "/slots", [{"is_processing": True}], 1),
        ("edge-agent", "/health", {"running": 1, "waiting": 3}, 4),
        ("vllm", "/metrics", None, None),
        ("llamacpp", "/slots", None, None),
        ("library", "/metrics", b'vllm:num_requests_running{engine="0"} 2.0\n', None),
    ],
)
async def test_a_peer_may_tell_how_busy_it_is(
    owner: str, path: str, tells: object, open_requests: int | None
) -> None:
    async with Double("openai") as double:
        double.owner = owner
        double.tells[path] = tells
        finding = await found(double.url, "openai")
    assert finding.problem is None
    assert finding.open_requests == open_requests


async def test_who_is_too_busy_to_say_so_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LOAD_LIMIT_S", 0.05)
    async with Double("openai") as double:
        double.frozen = {"/metrics"}
        finding = await found(double.url, "openai")
    assert (finding.problem, finding.open_requests) == (None, None)


async def test_what_the_operator_says_of_the_context_holds_where_a_peer_says_nothing() -> None:
    async with Double("openai") as double:
        double.owner = "library"
        finding = await found(double.url, "openai", context=4096)
    assert finding.ability.context_tokens == 4096
