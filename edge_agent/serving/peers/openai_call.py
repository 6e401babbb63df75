"""Writes a request as the body of a streamed `/v1/chat/completions`. Pure.

What a request leaves open stays out: the model there has its own defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_agent.dialects.openai_tools import call_body
from edge_agent.messages import NamedTool, Role, ToolMode
from edge_agent.serving.peers.capability import Flavour

if TYPE_CHECKING:
    from edge_agent.messages import Message, Request, Tool

PATH = "/v1/chat/completions"
# A seed is 64 bits here, a signed number there, 32 bits at llama.cpp; no sign is left to
# servers that read a negative one as "draw one".
_SEED_MASK = (1 << 63) - 1
_SEED_MASK_LLAMA_CPP = (1 << 31) - 1

# llama.cpp, and Ollama with it, look for repetition in the last 64 tokens; we mean prompt and
# answer. "All" is -1 to some versions, an error or nothing to others; a buffer of this size is
# 256 KiB there.
REPEAT_LAST_N = 1 << 16


def body(
    request: Request, *, model: str, flavour: Flavour, left_s: float | None = None
) -> dict[str, Any]:
    """Return what to post; `left_s` are the seconds until the deadline."""
    tree: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request, flavour),
        **_tools(request, flavour),
    }
    if request.max_tokens is not None:
        # The newer max_completion_tokens is not read by every server; the older one is.
        tree["max_tokens"] = request.max_tokens
    if request.stop:
        tree["stop"] = list(request.stop)
    if request.min_tokens:
        tree["min_tokens"] = request.min_tokens
    if request.ignore_eos:
        tree["ignore_eos"] = True
    if flavour is Flavour.EDGE_AGENT and left_s is not None:
        tree["deadline_s"] = left_s
    return tree


def _message(message: Message) -> dict[str, Any]:
    tree: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        tree["content"] = message.content or None
        tree["tool_calls"] = [call_body(call) for call in message.tool_calls]
    if message.role is Role.TOOL:
        tree["tool_call_id"] = message.tool_call_id
    return tree


def _sampling(request: Request, flavour: Flavour) -> dict[str, Any]:
    sampling = request.sampling
    is_llama_cpp = flavour is Flavour.LLAMA_CPP
    tree: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    if sampling.seed is not None:
        tree["seed"] = sampling.seed & (_SEED_MASK_LLAMA_CPP if is_llama_cpp else _SEED_MASK)
    if flavour is not Flavour.OPENAI:
        tree["top_k"] = sampling.top_k
        tree["min_p"] = sampling.min_p
        name = "repeat_penalty" if is_llama_cpp else "repetition_penalty"
        tree[name] = sampling.repetition_penalty
        if is_llama_cpp and sampling.repetition_penalty is not None:
            tree["repeat_last_n"] = REPEAT_LAST_N
    return {name: value for name, value in tree.items() if value is not None}


def _tools(request: Request, flavour: Flavour) -> dict[str, Any]:
    if not request.tools:
        return {}
    # vLLM holds the arguments of a call to their schema only where the tool is strict, and what
    # small models write when they have to call something is often not even an object.
    is_forced = request.tool_choice not in {ToolMode.AUTO, ToolMode.NONE}
    write = _strict_body if is_forced and flavour is Flavour.VLLM else tool_body
    tree: dict[str, Any] = {
        "tools": [write(tool) for tool in request.tools],
        "tool_choice": _choice(request),
    }
    if not request.parallel_tool_calls:
        tree["parallel_tool_calls"] = False
    return tree


def _choice(request: Request) -> str | dict[str, Any]:
    match request.tool_choice:
        case NamedTool(name=name):
            return {"type": "function", "function": {"name": name}}
        case ToolMode() as mode:
            return mode.value


def _strict_body(tool: Tool) -> dict[str, Any]:
    tree = tool_body(tool)
    function = tree["function"]
    function["strict"] = True
    # To an empty schema any value is good.
    function["parameters"] = {"type": "object", **tool.parameters}
    return tree


def tool_body(tool: Tool) -> dict[str, Any]:
    """Return `tool` as OpenAI and Ollama write it."""
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}
