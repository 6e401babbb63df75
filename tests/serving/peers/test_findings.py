"""What servers answer to probes is read for what it is worth, whatever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge_agent.serving.peers.capability import Ability, Flavour
from edge_agent.serving.peers.findings import (
    Finding,
    read_health,
    read_metrics,
    read_models,
    read_processes,
    read_props,
    read_show,
    read_slots,
    read_tags,
)
from tests.serving.peers.double import MODEL

PLAIN = Ability(flavour=Flavour.LLAMA_CPP)


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
@example(b"[]")
def test_no_body_is_too_strange(body: bytes) -> None:
    assert read_models(body, MODEL).problem
    assert read_tags(body, MODEL).problem
    assert read_props(body, PLAIN) == replace(PLAIN, takes_tools=False)
    for read in (read_show, read_slots, read_metrics, read_health):
        assert read(body) is None
    assert read_processes(body, MODEL) is None


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
    before = Ability(flavour=Flavour.LLAMA_CPP, context_tokens=4096)
    assert read_props(body, before) == replace(before, takes_tools=takes_tools)


@pytest.mark.parametrize(
    ("capabilities", "takes_tools"),
    [(None, True), (["completion", "tools"], True), (["completion"], False)],
)
def test_ollama_says_whether_a_model_takes_tools(capabilities: Any, takes_tools: bool) -> None:
    body = json.dumps({"models": [{"name": MODEL, "capabilities": capabilities}]}).encode()
    assert read_tags(body, MODEL).ability.takes_tools is takes_tools


@pytest.mark.parametrize(
    ("card", "tokens"),
    [
        ({"max_model_len": 2048}, 2048),
        ({"meta": {"n_ctx": 512, "n_ctx_train": 8192}}, 512),
        ({"max_model_len": None, "meta": None}, None),
        ({"max_model_len": 0}, None),
        ({}, None),
    ],
)
def test_a_list_of_models_may_tell_their_context(card: dict[str, Any], tokens: int | None) -> None:
    finding = read_models(models({"id": MODEL, "owned_by": "vllm", **card}), MODEL)
    assert finding.ability.context_tokens == tokens


def test_llama_cpp_tells_the_context_of_one_request() -> None:
    body = json.dumps({"default_generation_settings": {"n_ctx": 512}}).encode()
    before = Ability(flavour=Flavour.LLAMA_CPP, context_tokens=2048)
    assert read_props(body, before).context_tokens == 512


def test_llama_cpp_tells_which_slots_are_taken() -> None:
    slots = [{"id": 0, "is_processing": True, "n_ctx": 512}, {"id": 1, "is_processing": False}]
    assert read_slots(json.dumps(slots).encode()) == 1
    assert read_slots(b'{"error": {"code": 501, "message": "no slots"}}') is None


# As vLLM 0.32 writes them; what else is there is not looked at.
METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="phi"} 3.0
vllm:num_requests_running{engine="1",model_name="phi"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="phi"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="phi",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="phi"} 0.5
"""


def test_vllm_tells_what_all_its_engines_have_to_do() -> None:
    assert read_metrics(METRICS) == 11
    assert read_metrics(METRICS.replace(b"num_requests", b"others")) is None


@pytest.mark.parametrize("number", [b"nan", b"+Inf", b"-1.0", b"many", b""])
def test_what_is_no_number_of_requests_is_none(number: bytes) -> None:
    line = b'vllm:num_requests_running{engine="0"} %b\n' % number
    assert read_metrics(line) is None


def test_an_edge_agent_tells_its_queue_to_those_it_knows() -> None:
    assert read_health(b'{"status": "healthy", "running": 2, "waiting": 1, "held": 4}') == 7
    assert read_health(b'{"status": "healthy"}') is None


@pytest.mark.parametrize(
    ("info", "tokens"),
    [
        ({"general.architecture": "phi3", "phi3.context_length": 131072}, 131072),
        ({"general.architecture": "phi3", "llama.context_length": 8192}, None),
        ({"general.architecture": "phi3", "phi3.context_length": "long"}, None),
        ({}, None),
    ],
)
def test_ollama_shows_the_context_a_model_was_made_for(
    info: dict[str, Any], tokens: int | None
) -> None:
    assert read_show(json.dumps({"model_info": info}).encode()) == tokens


@pytest.mark.parametrize(
    ("loaded", "tokens"),
    [
        ([{"name": f"{MODEL}:latest", "context_length": 4096}], 4096),
        ([{"name": "other", "context_length": 4096}], None),
        ([{"name": MODEL}], None),
        ([], None),
    ],
)
def test_ollama_says_with_what_context_a_model_is_loaded(loaded: Any, tokens: int | None) -> None:
    assert read_processes(json.dumps({"models": loaded}).encode(), MODEL) == tokens


def test_newer_versions_of_ollama_list_the_context_too() -> None:
    tag = {"name": MODEL, "digest": "abc", "details": {"context_length": 131072}}
    finding = read_tags(json.dumps({"models": [tag]}).encode(), MODEL)
    assert (finding.ability.context_tokens, finding.digest) == (131072, "abc")
