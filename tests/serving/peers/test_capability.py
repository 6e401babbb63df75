"""A request goes only where all of it is understood."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.messages import NamedTool, Policy, Sampling, Tool, ToolMode
from edge_agent.serving.peers.capability import (
    Ability,
    Flavour,
    flavour_of,
    has_room,
    lacks,
    too_long,
)
from edge_agent.serving.peers.errand import Errand
from tests.serving.peers.house import request

TOOLS = (Tool(name="light"),)
ALL = set(Flavour)

CASES: list[tuple[dict[str, Any], set[Flavour]]] = [
    ({}, ALL),
    ({"sampling": Sampling(temperature=0, top_p=0.5, seed=1, presence_penalty=1)}, ALL),
    ({"sampling": Sampling(top_k=0, min_p=0, repetition_penalty=1)}, ALL),
    ({"sampling": Sampling(top_k=1)}, ALL - {Flavour.OPENAI}),
    ({"sampling": Sampling(min_p=0.1)}, ALL - {Flavour.OPENAI}),
    ({"sampling": Sampling(repetition_penalty=1.1)}, ALL - {Flavour.OPENAI}),
    ({"stop": ("a",), "max_tokens": None}, ALL),
    ({"tools": TOOLS}, ALL),
    ({"tools": TOOLS, "tool_choice": ToolMode.NONE}, ALL),
    ({"tools": TOOLS, "tool_choice": ToolMode.REQUIRED}, ALL - {Flavour.OLLAMA}),
    (
        {"tools": TOOLS, "tool_choice": NamedTool("light")},
        ALL - {Flavour.OLLAMA, Flavour.LLAMA_CPP},
    ),
    ({"tools": TOOLS, "parallel_tool_calls": False}, ALL - {Flavour.OLLAMA}),
    ({"parallel_tool_calls": False}, ALL),
    ({"hops": 1}, ALL - {Flavour.EDGE_AGENT}),
    ({"logprobs": 0}, set()),
    ({"logit_bias": {5: 1.0}}, set()),
    ({"stop_token_ids": (5,)}, set()),
    ({"min_tokens": 1}, {Flavour.VLLM, Flavour.EDGE_AGENT}),
    ({"ignore_eos": True}, {Flavour.VLLM, Flavour.EDGE_AGENT}),
]


@pytest.mark.parametrize(("fields", "able"), CASES, ids=str)
def test_who_can_answer(fields: dict[str, Any], able: set[Flavour]) -> None:
    asked = request(**fields)
    assert {each for each in Flavour if lacks(Ability(flavour=each), asked) is None} == able


def test_what_is_missing_is_named() -> None:
    why = lacks(Ability(flavour=Flavour.OPENAI), request(sampling=Sampling(min_p=0.1)))
    assert why == "is not known to take min_p"


@pytest.mark.parametrize(
    ("owner", "flavour"),
    [
        ("vllm", Flavour.VLLM),
        ("llamacpp", Flavour.LLAMA_CPP),
        ("edge-agent", Flavour.EDGE_AGENT),
        ("library", Flavour.OPENAI),
        (None, Flavour.OPENAI),
    ],
)
def test_servers_say_who_they_are(owner: str | None, flavour: Flavour) -> None:
    assert flavour_of(owner) is flavour


@pytest.mark.parametrize(
    ("fields", "is_able"),
    [
        ({}, True),
        ({"tools": TOOLS}, False),
        ({"tools": TOOLS, "tool_choice": ToolMode.NONE}, True),
    ],
)
def test_a_model_without_tools_is_asked_for_text(fields: dict[str, Any], is_able: bool) -> None:
    ability = Ability(flavour=Flavour.LLAMA_CPP, takes_tools=False)
    assert (lacks(ability, request(**fields)) is None) is is_able


def errand(least: int, likely: int, max_tokens: int | None = 100) -> Errand:
    return Errand(
        request=request(max_tokens=max_tokens),
        policy=Policy.SITE,
        least_tokens=least,
        likely_tokens=likely,
    )


@pytest.mark.parametrize(
    ("flavour", "least", "max_tokens", "fits"),
    [
        (Flavour.OLLAMA, 1023, 4096, True),  # it ends where the context is full
        (Flavour.OLLAMA, 1024, 4096, False),
        (Flavour.VLLM, 924, 100, True),
        (Flavour.VLLM, 925, 100, False),  # it refuses what it may have no room for
        (Flavour.VLLM, 1023, None, True),
    ],
)
def test_what_cannot_fit_is_not_sent(
    flavour: Flavour, least: int, max_tokens: int | None, *, fits: bool
) -> None:
    asked = errand(least, least, max_tokens)
    why = too_long(Ability(flavour=flavour, context_tokens=1024), asked)
    assert (why is None) is fits
    assert why is None or why.startswith("has a context of 1024 tokens, and the prompt takes at le")
    assert too_long(Ability(flavour=flavour), asked) is None


def test_where_it_is_tight_there_is_no_room() -> None:
    ability = Ability(flavour=Flavour.VLLM, context_tokens=1024)
    assert has_room(ability, errand(10, 924))
    assert not has_room(ability, errand(10, 925))
    assert has_room(Ability(flavour=Flavour.VLLM), errand(10, 10**6))
