"""What the answers to a probe say of a peer, for each kind of server. Bytes in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.serving.peers.capability import Ability, Flavour, flavour_of
from edge_agent.serving.peers.reply import Tokens, bare, told

# More names than this help nobody to find the right one.
_MOST_NAMES_TOLD = 8
_PLAIN = Ability(flavour=Flavour.OPENAI)
# vLLM's gauges of what its engines work on and what waits for them, a line per engine.
_VLLM_OPEN = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe found out."""

    problem: str | None = None
    """Why the peer cannot be used; None if it can. Begins with a verb."""
    ability: Ability = _PLAIN
    names: frozenset[str] = frozenset()
    """What the peer may call the model in its answers; none: unknown."""
    open_requests: int | None = None
    """What it works on and what waits there, whoever asked; None if it does not say."""
    loaded_tokens: int | None = None
    """The context with which an Ollama server has the model in memory; None if it has not."""
    digest: str | None = None
    """Of the model's files at an Ollama server."""


class _Details(Struct):
    context_length: Tokens | None = None


class _Tag(Struct):
    name: str
    capabilities: list[str] | None = None
    digest: str | None = None
    details: _Details | None = None


class _Tags(Struct):
    models: list[_Tag]


class _Loaded(Struct):
    name: str | None = None
    context_length: Tokens | None = None


class _Processes(Struct):
    models: list[_Loaded]


class _Shown(Struct):
    model_info: dict[str, Any] = {}


class _Meta(Struct):
    n_ctx: Tokens | None = None


class _Card(Struct):
    id: str
    owned_by: str | None = None
    root: str | None = None
    aliases: list[str] | None = None
    max_model_len: Tokens | None = None
    meta: _Meta | None = None


class _Cards(Struct):
    data: list[_Card]


class _TemplateCaps(Struct, frozen=True):
    supports_tools: bool = False


class _Generation(Struct, frozen=True):
    n_ctx: Tokens | None = None


class _Props(Struct):
    chat_template_caps: _TemplateCaps = _TemplateCaps()
    default_generation_settings: _Generation = _Generation()


class _Slot(Struct):
    is_processing: bool = False


class _Health(Struct):
    running: Tokens
    waiting: Tokens = 0
    held: Tokens = 0


def read_tags(body: bytes, model: str) -> Finding:
    """Return what the body of Ollama's `/api/tags` says about `model`."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except (ValueError, RecursionError):
        return Finding(problem="is no Ollama server: its list of models cannot be read")
    tag = next((tag for tag in tags.models if bare(tag.name) == bare(model)), None)
    if tag is None:
        return _without(model, [tag.name for tag in tags.models])
    ability = Ability(
        flavour=Flavour.OLLAMA,
        takes_tools=tag.capabilities is None or "tools" in tag.capabilities,
        context_tokens=(tag.details or _Details()).context_length or None,
    )
    return Finding(ability=ability, names=frozenset({model}), digest=tag.digest)


def read_show(body: bytes) -> int | None:
    """Return the tokens of context that a model was made for, by Ollama's `/api/show`."""
    try:
        facts = msgspec.json.decode(body, type=_Shown).model_info
    except (ValueError, RecursionError):
        return None
    architecture = facts.get("general.architecture")
    tokens = facts.get(f"{architecture}.context_length")
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def read_processes(body: bytes, model: str) -> int | None:
    """Return the context with which Ollama's `/api/ps` says that `model` is in memory, if it is."""
    try:
        loaded = msgspec.json.decode(body, type=_Processes).models
    except (ValueError, RecursionError):
        return None
    each = next((each for each in loaded if bare(each.name or "") == bare(model)), None)
    return each.context_length or None if each else None


def read_models(body: bytes, model: str) -> Finding:
    """Return what the body of `/v1/models` says about `model`, and whose server it is.

    A model that is served by several names answers by the first of them, as vLLM does it.
    """
    try:
        cards = msgspec.json.decode(body, type=_Cards).data
    except (ValueError, RecursionError):
        return Finding(problem="is no OpenAI server: its list of models cannot be read")
    card = next((card for card in cards if model in (card.id, *(card.aliases or ()))), None)
    if card is None:
        return _without(model, [card.id for card in cards])
    same = {other.id for other in cards if card.root and other.root == card.root}
    names = frozenset({model, card.id, *(card.aliases or ()), *same})
    context = card.max_model_len or (card.meta.n_ctx if card.meta else None)
    ability = Ability(flavour=flavour_of(card.owned_by), context_tokens=context or None)
    return Finding(ability=ability, names=names)


def read_props(body: bytes, ability: Ability) -> Ability:
    """Return `ability` with what llama.cpp's `/props` says; what it does not say is not there."""
    try:
        props = msgspec.json.decode(body, type=_Props)
    except (ValueError, RecursionError):
        props = _Props()
    return replace(
        ability,
        takes_tools=props.chat_template_caps.supports_tools,
        # Of one slot, where the list of models may tell that of all.
        context_tokens=props.default_generation_settings.n_ctx or ability.context_tokens,
    )


def read_slots(body: bytes) -> int | None:
    """Return how many requests llama.cpp works on, by its `/slots`; None if it does not tell."""
    try:
        slots = msgspec.json.decode(body, type=list[_Slot])
    except (ValueError, RecursionError):
        return None
    return sum(slot.is_processing for slot in slots) if slots else None


def read_metrics(body: bytes) -> int | None:
    """Return how many requests vLLM has, by its `/metrics`; None if it does not tell."""
    found = [float(line.rsplit(b" ", 1)[1]) for line in body.splitlines() if _is_open(line)]
    total = sum(found)
    return int(total) if found and 0 <= total < float("inf") else None


def _is_open(line: bytes) -> bool:
    """Return whether `line` is one of the gauges, with a number at its end."""
    name, _, rest = line.partition(b"{")
    number = rest.rpartition(b" ")[2]
    return name in _VLLM_OPEN and number.replace(b".", b"", 1).isdigit()


def read_health(body: bytes) -> int | None:
    """Return how many requests an edge_agent has, by its `/health`; None if it does not tell."""
    try:
        health = msgspec.json.decode(body, type=_Health)
    except (ValueError, RecursionError):
        return None
    return health.running + health.waiting + health.held


def _without(model: str, names: list[str]) -> Finding:
    known = ", ".join(told(name, 60) for name in names[:_MOST_NAMES_TOLD]) or "none"
    return Finding(problem=f"has no model {model!r}; it has: {known}")
