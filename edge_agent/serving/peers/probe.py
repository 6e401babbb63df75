"""Asks a peer whether it is well and has the model it is configured for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edge_agent.errors import Forbidden
from edge_agent.serving.peers.capability import Ability, Flavour, flavour_of
from edge_agent.serving.peers.door import Broken, NoConnection
from edge_agent.serving.peers.reply import bare, told

if TYPE_CHECKING:
    from edge_agent.config import Peer
    from edge_agent.messages import Policy
    from edge_agent.serving.peers.door import Door

# One that takes longer to say that it is well is not well enough to be asked for answers.
LIMIT_S = 2.0
# More names than this help nobody to find the right one.
_MOST_NAMES_TOLD = 8
_PLAIN = Ability(flavour=Flavour.OPENAI)
_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe found out."""

    problem: str | None = None
    """Why the peer cannot be used; None if it can. Begins with a verb."""
    ability: Ability = _PLAIN
    names: frozenset[str] = frozenset()
    """What the peer may call the model in its answers; none: unknown."""


class _Tag(Struct):
    name: str
    capabilities: list[str] | None = None


class _Tags(Struct):
    models: list[_Tag]


class _Card(Struct):
    id: str
    owned_by: str | None = None
    root: str | None = None
    aliases: list[str] | None = None


class _Cards(Struct):
    data: list[_Card]


class _TemplateCaps(Struct, frozen=True):
    supports_tools: bool = False


class _Props(Struct):
    chat_template_caps: _TemplateCaps = _TemplateCaps()


async def look(door: Door, peer: Peer, policy: Policy) -> Finding:
    """Return what is to be found out about `peer` within `LIMIT_S`."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await (_ollama if peer.kind == "ollama" else _openai)(door, peer, policy)
    except (NoConnection, Broken) as exc:
        return Finding(problem=f"cannot be reached: {exc}")
    except TimeoutError:
        return Finding(problem=f"does not answer within {LIMIT_S:g} s")
    except Forbidden as exc:
        return Finding(problem=f"is not asked: {exc}")


async def _ollama(door: Door, peer: Peer, policy: Policy) -> Finding:
    status, body = await _get(door, "/api/tags", policy)
    return _by_status(status) or read_tags(body, peer.model)


async def _openai(door: Door, peer: Peer, policy: Policy) -> Finding:
    status, _ = await _get(door, "/health", policy)
    # Of the servers of this kind vLLM, llama.cpp and edge-agent have it; others are not the worse.
    if status not in _NOT_THERE and (sick := _by_status(status)):
        return sick
    status, body = await _get(door, "/v1/models", policy)
    if status in _NOT_THERE:
        return Finding()
    finding = _by_status(status) or read_models(body, peer.model)
    if finding.ability.flavour is not Flavour.LLAMA_CPP:
        return finding
    _, body = await _get(door, "/props", policy)
    return replace(finding, ability=read_props(body))


async def _get(door: Door, path: str, policy: Policy) -> tuple[int, bytes]:
    reply = await door.get(path, policy=policy)
    try:
        return reply.status, await reply.read_all()
    finally:
        reply.close()


def _by_status(status: int) -> Finding | None:
    if status == HTTPStatus.OK:
        return None
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Finding(problem=f"does not take our key (status {status})")
    return Finding(problem=f"says that it is not well (status {status})")


def read_tags(body: bytes, model: str) -> Finding:
    """Return what the body of Ollama's `/api/tags` says about `model`."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except (ValueError, RecursionError):
        return Finding(problem="is no Ollama server: its list of models cannot be read")
    tag = next((tag for tag in tags.models if bare(tag.name) == bare(model)), None)
    if tag is None:
        return _without(model, [tag.name for tag in tags.models])
    takes_tools = tag.capabilities is None or "tools" in tag.capabilities
    ability = Ability(flavour=Flavour.OLLAMA, takes_tools=takes_tools)
    return Finding(ability=ability, names=frozenset({model}))


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
    return Finding(ability=Ability(flavour=flavour_of(card.owned_by)), names=names)


def read_props(body: bytes) -> Ability:
    """Return what the body of llama.cpp's `/props` says; what it does not say is not there."""
    try:
        props = msgspec.json.decode(body, type=_Props)
    except (ValueError, RecursionError):
        props = _Props()
    return Ability(flavour=Flavour.LLAMA_CPP, takes_tools=props.chat_template_caps.supports_tools)


def _without(model: str, names: list[str]) -> Finding:
    known = ", ".join(told(name, 60) for name in names[:_MOST_NAMES_TOLD]) or "none"
    return Finding(problem=f"has no model {model!r}; it has: {known}")
