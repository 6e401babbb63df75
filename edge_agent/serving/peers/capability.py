"""What servers can do, and whether that is all a request needs. Pure.

A request goes only where everything it says is understood: a setting that is silently dropped
changes the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from edge_agent.messages import ToolMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.messages import Request
    from edge_agent.serving.peers.errand import Errand


class Flavour(StrEnum):
    """Whose server it is; `openai` is any that has not said so, and gets what OpenAI has."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    EDGE_AGENT = "edge-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What one server can do."""

    flavour: Flavour
    takes_tools: bool = True
    """Whether its model's template shows tools; llama.cpp drops them in silence if not."""
    context_tokens: int | None = None
    """Prompt and answer of a request have so much room together; None if that is not known."""


# What servers write as `owned_by` in their list of models.
_OWNERS = {
    "vllm": Flavour.VLLM,
    "llamacpp": Flavour.LLAMA_CPP,
    "edge-agent": Flavour.EDGE_AGENT,
}
_MOST_HOPS_TO_A_GATEWAY = 0


def flavour_of(owner: str | None) -> Flavour:
    """Return which server it is that lists a model as owned by `owner`."""
    return _OWNERS.get(owner or "", Flavour.OPENAI)


def lacks(ability: Ability, request: Request) -> str | None:
    """Return what `request` needs and a server of `ability` has not; None if nothing."""
    if request.tools and request.tool_choice is not ToolMode.NONE and not ability.takes_tools:
        return "has a model that takes no tools"
    needs = {
        Flavour.OLLAMA: _beyond_ollama,
        Flavour.OPENAI: _beyond_openai,
        Flavour.VLLM: _beyond_vllm,
        Flavour.LLAMA_CPP: _beyond_llama_cpp,
        Flavour.EDGE_AGENT: _beyond_edge_agent,
    }
    return next(chain(_of_this_model(request), needs[ability.flavour](request)), None)


def too_long(ability: Ability, errand: Errand) -> str | None:
    """Return why `errand` cannot fit the context of a server; None if it may."""
    context, answer = ability.context_tokens, errand.request.max_tokens
    if context is None:
        return None
    # Others end an answer where the context is full.
    is_kept = ability.flavour is Flavour.VLLM and answer is not None
    least_answer = answer if is_kept and answer else 1
    if errand.least_tokens + least_answer <= context:
        return None
    beside = f", and {least_answer} for the answer" if is_kept else ""
    return (
        f"has a context of {context} tokens, and the prompt takes at least "
        f"{errand.least_tokens}{beside}"
    )


def has_room(ability: Ability, errand: Errand) -> bool:
    """Return whether `errand` fits the context of a server as far as anybody can tell."""
    return ability.context_tokens is None or errand.room_tokens <= ability.context_tokens


def _of_this_model(request: Request) -> Iterator[str]:
    """Yield what speaks of the tokens of the model here; those of others have other ids."""
    if request.logprobs is not None:
        yield "is not asked for log-probabilities (logprobs)"
    if request.logit_bias:
        yield "may have other tokens (logit_bias)"
    if request.stop_token_ids:
        yield "may have other tokens (stop_token_ids)"


def _beyond_vllm(_: Request) -> Iterator[str]:
    yield from ()


def _of_vllm(request: Request) -> Iterator[str]:
    """Yield what vLLM added to OpenAI's fields, and others but edge-agent did not take over."""
    if request.min_tokens:
        yield "is not known to take min_tokens"
    if request.ignore_eos:
        yield "is not known to take ignore_eos"


def _beyond_ollama(request: Request) -> Iterator[str]:
    yield from _of_vllm(request)
    if not request.tools:
        return
    if request.tool_choice not in {ToolMode.AUTO, ToolMode.NONE}:
        yield "cannot be made to call a tool (tool_choice)"
    if not request.parallel_tool_calls:
        yield "cannot be held to one call (parallel_tool_calls)"


def _beyond_openai(request: Request) -> Iterator[str]:
    sampling = request.sampling
    # Their neutral values are what a server without them does.
    for name, value, neutral in (
        ("top_k", sampling.top_k, 0),
        ("min_p", sampling.min_p, 0),
        ("repetition_penalty", sampling.repetition_penalty, 1),
    ):
        if value is not None and value != neutral:
            yield f"is not known to take {name}"
    yield from _of_vllm(request)


def _beyond_llama_cpp(request: Request) -> Iterator[str]:
    yield from _of_vllm(request)
    if request.tools and not isinstance(request.tool_choice, ToolMode):
        yield "cannot be made to call one tool of several (tool_choice)"


def _beyond_edge_agent(request: Request) -> Iterator[str]:
    if request.hops > _MOST_HOPS_TO_A_GATEWAY:
        yield "is an edge-agent too, and the request has come through one already"
