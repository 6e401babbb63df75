"""All that a request says is in the body that goes to an OpenAI-style server."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.config import Limits
from edge_agent.dialects.openai import parse_chat
from edge_agent.messages import (
    Message,
    NamedTool,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolMode,
)
from edge_agent.serving.peers.capability import Flavour
from edge_agent.serving.peers.openai_call import body
from tests.serving.peers.house import QUESTION, request

LIGHT = Tool(name="light", description="Switch it.", parameters={"type": "object"})
CALL = ToolCall(id="c1", name="light", arguments='{"on": true}')
TALK = (
    Message(role=Role.SYSTEM, content="Be brief."),
    Message(role=Role.USER, content="Light!"),
    Message(role=Role.ASSISTANT, content="", tool_calls=(CALL,)),
    Message(role=Role.TOOL, content="done", tool_call_id="c1"),
)
SAMPLING = Sampling(
    temperature=0.5,
    top_k=40,
    top_p=0.9,
    min_p=0.05,
    repetition_penalty=1.1,
    presence_penalty=0.2,
    frequency_penalty=-0.3,
    seed=(1 << 64) - 2,
)


def test_what_is_left_open_stays_out() -> None:
    assert body(request(max_tokens=None), model="m", flavour=Flavour.VLLM) == {
        "model": "m",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_gateway_reads_back_what_was_asked() -> None:
    asked = request(
        messages=TALK,
        model="m",
        sampling=SAMPLING,
        max_tokens=9,
        stop=("END", "\n"),
        tools=(LIGHT,),
        tool_choice=NamedTool("light"),
        parallel_tool_calls=False,
        stream=True,
        deadline_s=7.5,
        min_tokens=4,
        ignore_eos=True,
    )
    sent = body(asked, model="m", flavour=Flavour.EDGE_AGENT, left_s=7.5)
    read = parse_chat(sent, request_id="r1", limits=Limits()).request

    # A seed loses its highest bit, which other servers take for a sign.
    seed = ((1 << 64) - 2) & ((1 << 63) - 1)
    assert read.sampling.seed == seed
    assert read.messages == asked.messages
    assert read.stop == asked.stop
    assert (read.tools, read.tool_choice) == (asked.tools, asked.tool_choice)
    assert (read.max_tokens, read.deadline_s) == (9, 7.5)
    assert (read.min_tokens, read.ignore_eos) == (4, True)
    assert not read.parallel_tool_calls
    for name in SAMPLING.__struct_fields__:
        if name != "seed":
            assert getattr(read.sampling, name) == getattr(SAMPLING, name)


@pytest.mark.parametrize(
    ("flavour", "extras"),
    [
        (Flavour.OPENAI, {}),
        (Flavour.VLLM, {"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1}),
        (
            Flavour.LLAMA_CPP,
            {"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": 65536},
        ),
    ],
)
def test_each_server_gets_the_sampling_it_knows(flavour: Flavour, extras: dict[str, Any]) -> None:
    sent = body(request(sampling=SAMPLING), model="m", flavour=flavour)
    always = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"}
    frame = {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert {key: sent[key] for key in sent.keys() - always - frame} == extras


@pytest.mark.parametrize(
    ("flavour", "most"), [(Flavour.VLLM, 1 << 63), (Flavour.LLAMA_CPP, 1 << 31)]
)
def test_a_seed_fits_the_server(flavour: Flavour, most: int) -> None:
    sent = body(request(sampling=SAMPLING), model="m", flavour=flavour)
    assert 0 <= sent["seed"] < most


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (ToolMode.AUTO, "auto"),
        (ToolMode.NONE, "none"),
        (ToolMode.REQUIRED, "required"),
        (NamedTool("light"), {"type": "function", "function": {"name": "light"}}),
    ],
)
def test_tool_choice(choice: Any, told: Any) -> None:
    sent = body(request(tools=(LIGHT,), tool_choice=choice), model="m", flavour=Flavour.VLLM)
    assert sent["tool_choice"] == told
    assert "parallel_tool_calls" not in sent


def test_a_deadline_is_told_to_gateways_only() -> None:
    assert "deadline_s" not in body(request(), model="m", flavour=Flavour.VLLM, left_s=3.0)
    assert body(request(), model="m", flavour=Flavour.EDGE_AGENT, left_s=3.0)["deadline_s"] == 3.0


@pytest.mark.parametrize("flavour", Flavour)
@pytest.mark.parametrize("choice", [*ToolMode, NamedTool("light")])
def test_vllm_is_told_to_keep_to_the_schema_of_a_call_it_has_to_make(
    flavour: Flavour, choice: Any
) -> None:
    asked = request(tools=(LIGHT, Tool(name="blind")), tool_choice=choice)
    light, blind = (tool["function"] for tool in body(asked, model="m", flavour=flavour)["tools"])
    is_strict = flavour is Flavour.VLLM and choice not in {ToolMode.AUTO, ToolMode.NONE}
    assert (light.get("strict"), blind.get("strict")) == (
        (True, True) if is_strict else (None,) * 2
    )
    assert light["parameters"] == LIGHT.parameters
    assert blind["parameters"] == ({"type": "object"} if is_strict else {})
