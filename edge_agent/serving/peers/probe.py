"""Asks a peer whether it is well, whether it has its model, and how much room there is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from edge_agent.errors import Forbidden
from edge_agent.serving.peers.capability import Flavour
from edge_agent.serving.peers.door import Broken, NoConnection
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

if TYPE_CHECKING:
    from edge_agent.config import Peer
    from edge_agent.messages import Policy
    from edge_agent.serving.peers.door import Door, Reply

# One that takes longer to say that it is well is not well enough to be asked for answers.
LIMIT_S = 2.0
# How busy it is is good to know and not worth more: a server that is busy may be slow to say so.
LOAD_LIMIT_S = 0.5
_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


async def look(door: Door, peer: Peer, policy: Policy, before: Finding | None = None) -> Finding:
    """Return what is to be found out about `peer` within `LIMIT_S`.

    `before` is what was found the last time; what cannot have changed since is not asked again.
    """
    try:
        async with asyncio.timeout(LIMIT_S):
            if peer.kind == "ollama":
                finding = await _ollama(door, peer, policy, before)
            else:
                finding = await _openai(door, peer, policy)
            return _within(finding, peer.context)
    except (NoConnection, Broken) as exc:
        return Finding(problem=f"cannot be reached: {exc}")
    except TimeoutError:
        return Finding(problem=f"does not answer within {LIMIT_S:g} s")
    except Forbidden as exc:
        return Finding(problem=f"is not asked: {exc}")


async def _ollama(door: Door, peer: Peer, policy: Policy, before: Finding | None) -> Finding:
    status, body = await _get(door, "/api/tags", policy)
    finding = _by_status(status) or read_tags(body, peer.model)
    if finding.problem is not None:
        return finding
    ability = finding.ability
    if ability.context_tokens is None:
        is_same = before is not None and finding.digest and before.digest == finding.digest
        most = before.ability.context_tokens if before and is_same else None
        most = most or await _shown(door, peer, policy)
        ability = replace(ability, context_tokens=most)
    loaded = await _aside(door, "/api/ps", policy)
    return replace(finding, ability=ability, loaded_tokens=read_processes(loaded, peer.model))


async def _shown(door: Door, peer: Peer, policy: Policy) -> int | None:
    reply = await door.post("/api/show", {"model": peer.model}, policy=policy, headers={})
    status, body = await _read(reply)
    return read_show(body) if status == HTTPStatus.OK else None


async def _openai(door: Door, peer: Peer, policy: Policy) -> Finding:
    status, health = await _get(door, "/health", policy)
    # Of the servers of this kind vLLM, llama.cpp and edge-agent have it; others are not the worse.
    if status not in _NOT_THERE and (sick := _by_status(status)):
        return sick
    status, body = await _get(door, "/v1/models", policy)
    if status in _NOT_THERE:
        return Finding()
    finding = _by_status(status) or read_models(body, peer.model)
    if finding.problem is not None:
        return finding
    ability, load = finding.ability, None
    match ability.flavour:
        case Flavour.VLLM:
            load = read_metrics(await _aside(door, "/metrics", policy))
        case Flavour.EDGE_AGENT:
            load = read_health(health)
        case Flavour.LLAMA_CPP:
            _, props = await _get(door, "/props", policy)
            ability = read_props(props, ability)
            load = read_slots(await _aside(door, "/slots", policy))
        case Flavour.OPENAI | Flavour.OLLAMA:
            pass
    return replace(finding, ability=ability, open_requests=load)


async def _get(door: Door, path: str, policy: Policy) -> tuple[int, bytes]:
    return await _read(await door.get(path, policy=policy))


async def _read(reply: Reply) -> tuple[int, bytes]:
    try:
        return reply.status, await reply.read_all()
    finally:
        reply.close()


async def _aside(door: Door, path: str, policy: Policy) -> bytes:
    """Return what is good to know, or nothing: no peer is the worse for not telling."""
    with suppress(NoConnection, Broken, TimeoutError):
        async with asyncio.timeout(LOAD_LIMIT_S):
            status, body = await _get(door, path, policy)
            return body if status == HTTPStatus.OK else b""
    return b""


def _within(finding: Finding, context_tokens: int | None) -> Finding:
    """Return `finding` with no more context than the operator has said there is."""
    if context_tokens is None:
        return finding
    tokens = min(context_tokens, finding.ability.context_tokens or context_tokens)
    return replace(finding, ability=replace(finding.ability, context_tokens=tokens))


def _by_status(status: int) -> Finding | None:
    if status == HTTPStatus.OK:
        return None
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Finding(problem=f"does not take our key (status {status})")
    return Finding(problem=f"says that it is not well (status {status})")
