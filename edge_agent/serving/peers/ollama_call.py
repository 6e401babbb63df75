"""Writes a request as the body of a streamed `/api/chat` of Ollama. Pure.

What a request leaves open stays out: the model there has its own defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.messages import Role, ToolMode
from edge_agent.serving.peers.openai_call import REPEAT_LAST_N, tool_body

if TYPE_CHECKING:
    from edge_agent.messages import Message, Request

PATH = "/api/chat"
# Ollama's seed is a signed number of which -1 means "draw one".
_SEED_MASK = (1 << 31) - 1
_UNTIL_IT_STOPS = -1
# What Ollama gives a model by itself on most machines.
LEAST_CONTEXT = 4096


def context_for(
    needed_tokens: int, *, fixed: int | None, loaded: int | None, most: int | None
) -> int:
    """Return the context to ask for, tokens: Ollama's own would be exceeded, and prompts cut.

    Another one than the last time makes it load the model again. So it is `fixed` by the operator,
    or that with which the model is `loaded` if `needed_tokens` fit, or else as much as fits in
    powers of two; never above the `most` that the model was made for.
    """
    if fixed is not None:
        return fixed
    if loaded is not None and needed_tokens <= loaded:
        return loaded
    step = max(LEAST_CONTEXT, 1 << (needed_tokens - 1).bit_length())
    return step if most is None else min(step, most)


def body(request: Request, *, model: str, context_tokens: int | None) -> dict[str, Any]:
    """Return what to post; `context_tokens` None leaves the size of the context to the peer."""
    tree: dict[str, Any] = {
        "model": model,
        "messages": _messages(request.messages),
        "stream": True,
        # A prompt that does not fit is refused, not cut, and nothing of it is dropped on the way.
        "truncate": False,
        "shift": False,
        "think": False,
        "options": _options(request, context_tokens),
    }
    # It knows no tool_choice; without tools it calls none.
    if request.tools and request.tool_choice is not ToolMode.NONE:
        tree["tools"] = [tool_body(tool) for tool in request.tools]
    if request.keep_alive_s is not None:
        # Some versions cut a fraction off, and half a second would be none at all.
        tree["keep_alive"] = math.ceil(request.keep_alive_s)
    return tree


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    # A result says by name whose it is; here it knows only the id of the call.
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_message(message, names) for message in messages]


def _message(message: Message, names: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        tree["tool_calls"] = [
            {
                "id": call.id,
                "function": {"name": call.name, "arguments": msgspec.json.decode(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL and message.tool_call_id is not None:
        tree["tool_call_id"] = message.tool_call_id
        if name := names.get(message.tool_call_id):
            tree["tool_name"] = name
    return tree


def _options(request: Request, context_tokens: int | None) -> dict[str, Any]:
    sampling = request.sampling
    options: dict[str, Any] = {
        "num_ctx": context_tokens,
        "num_predict": _UNTIL_IT_STOPS if request.max_tokens is None else request.max_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": None if sampling.seed is None else sampling.seed & _SEED_MASK,
        "stop": list(request.stop) or None,
    }
    if sampling.repetition_penalty is not None:
        options["repeat_last_n"] = REPEAT_LAST_N
    return {name: value for name, value in options.items() if value is not None}
