"""A probe finds out whether a peer is there, well, and has the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge_agent.messages import Policy
from edge_agent.serving.peers import probe
from edge_agent.serving.peers.capability import Ability, Flavour
from edge_agent.serving.peers.door import Door
from edge_agent.serving.peers.probe import Finding, look, read_models, read_props, read_tags
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


def models(*cards: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": list(cards)}).encode()


def test_names_of_one_model_are_all_good() -> None:
    """vLLM answers by the first of its served names, llama.cpp by its alias."""
    body = models(
        {"id": "phi", "root": "/models/phi", "owned_by": "vllm"},
        {"id": MODEL, "root": "/models/phi", "owned_by": "vllm"},
        {"id": "adapter", "root": "/models/other", "owned_by": "vllm"},
    )
    finding = read_models(body, MODEL)
    assert finding == Finding(
        ability=Ability(flavour=Flavour.VLLM), names=frozenset({"phi", MODEL})
    )

    body = models({"id": "phi.gguf", "aliases": [MODEL], "owned_by": "llamacpp"})
    finding = read_models(body, MODEL)
    assert finding == Finding(
        ability=Ability(flavour=Flavour.LLAMA_CPP), names=frozenset({"phi.gguf", MODEL})
    )


def test_a_model_that_is_not_there_is_missed_by_name() -> None:
    cards = [{"id": f"m{number}\n"} for number in range(20)]
    problem = read_models(models(*cards), MODEL).problem
    assert problem == "has no model 'phi-4-mini'; it has: m0, m1, m2, m3, m4, m5, m6, m7"


@pytest.mark.parametrize("name", ["phi4-mini", "phi4-mini:latest"])
@pytest.mark.parametrize("listed", ["phi4-mini", "phi4-mini:latest"])
def test_a_tag_may_be_left_out(name: str, listed: str) -> None:
    body = json.dumps({"models": [{"name": listed}]}).encode()
    assert read_tags(body, name).problem is None


@hypothesis_settings(deadline=None)
@given(st.binary())
def test_no_body_is_too_strange(body: bytes) -> None:
    assert read_models(body, MODEL).problem
    assert read_tags(body, MODEL).problem


@pytest.mark.parametrize(
    ("body", "takes_tools"),
    [
        (b'{"chat_template_caps": {"supports_tools": true}}', True),
        (b'{"chat_template_caps": {"supports_tools": false}}', False),
        (b'{"total_slots": 1}', False),
        (b"<html>", False),
    ],
)
def test_llama_cpp_says_whether_its_template_shows_tools(body: bytes, takes_tools: bool) -> None:
    assert read_props(body) == Ability(flavour=Flavour.LLAMA_CPP, takes_tools=takes_tools)


@pytest.mark.parametrize(
    ("capabilities", "takes_tools"),
    [(None, True), (["completion", "tools"], True), (["completion"], False)],
)
def test_ollama_says_whether_a_model_takes_tools(capabilities: Any, takes_tools: bool) -> None:
    body = json.dumps({"models": [{"name": MODEL, "capabilities": capabilities}]}).encode()
    assert read_tags(body, MODEL).ability.takes_tools is takes_tools


async def test_llama_cpp_is_asked_about_its_template() -> None:
    async with Double("openai") as double:
        double.owner = "llamacpp"
        finding = await found(double.url, "openai")
    assert finding.ability == Ability(flavour=Flavour.LLAMA_CPP, takes_tools=True)
