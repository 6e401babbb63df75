"""Peers as the daemon has them, on doubles; requests, and their answers as one value."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from edge_agent import config
from edge_agent.messages import Message, Request, Role, fold
from edge_agent.serving.peers.peers import Peers
from tests.serving.peers.double import MODEL, WORDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edge_agent.messages import Answer, Event, Failed

KINDS = ("ollama", "openai")
TEXT = "".join(WORDS)
QUESTION = "What is the capital of France?"


def request(**fields: Any) -> Request:
    """Return a request for an answer."""
    messages = (Message(role=Role.USER, content=QUESTION),)
    return Request(**{"id": "r1", "messages": messages, "max_tokens": 100, **fields})


def settings(url: str, kind: str = "openai", **fields: Any) -> config.Peer:
    """Return the configuration of a peer."""
    # A loaded machine is slow; limits have tests of their own.
    values: dict[str, Any] = {"name": "attic", "model": MODEL, "zone": "site"}
    values["connect_timeout_s"] = 20.0
    return config.Peer(**{**values, "url": url, "kind": kind, **fields})


@asynccontextmanager
async def house(*peers: config.Peer, policy: Any = "site", **fields: Any) -> AsyncIterator[Peers]:
    """Run peers without probes."""
    house = Peers(peers, config.Routing(policy=policy), chance=lambda: 0.5, **fields)
    try:
        yield house
    finally:
        await house.close()


async def events(peers: Peers, asked: Request, limit_s: float | None = None) -> list[Event]:
    """Return all that is said to a request."""
    deadline_s = None if limit_s is None else time.monotonic() + limit_s
    return [event async for event in peers.stream(asked, peers.candidates(asked), deadline_s)]


async def outcome(
    peers: Peers, asked: Request | None = None, limit_s: float | None = None
) -> Answer | Failed:
    """Return what becomes of a request."""
    return fold(await events(peers, asked or request(), limit_s))
