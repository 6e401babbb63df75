"""The part of `doctor` that asks the peers how they are, and says what falls back to what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge_agent.messages import Policy
from edge_agent.serving.admission import Rules
from edge_agent.serving.peers.door import may_go
from edge_agent.serving.peers.peers import Peers
from edge_agent.serving.wellness import peers_health

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_agent.config import Config
    from edge_agent.ops.health import PeerHealth


def probe(settings: Config) -> tuple[PeerHealth, ...]:
    """Ask every peer that prompts of the default policy may reach; return how all are.

    Raises:
        ConfigError: the key file of a peer cannot be used.
    """

    async def ask() -> tuple[PeerHealth, ...]:
        peers = Peers(settings.peers, settings.routing)
        try:
            await peers.probe()
            return peers_health(peers.states())
        finally:
            await peers.close()

    return asyncio.run(ask()) if settings.peers else ()


def helpers(settings: Config, peers: Sequence[PeerHealth]) -> tuple[str, ...]:
    """Return the peers that answer, now, what the model here cannot, the first first."""
    rules = Rules.of(settings)
    if rules.fallback == "never":
        return ()
    well = {peer.name for peer in peers if peer.problem is None and may_go(rules.policy, peer.zone)}
    ranked = sorted(settings.peers, key=lambda peer: -peer.priority)
    return tuple(peer.name for peer in ranked if peer.name in well)


def lines(settings: Config, peers: Sequence[PeerHealth]) -> Iterator[str]:
    """Yield what is to be said of the peers, for people."""
    rules = Rules.of(settings)
    for peer in peers:
        where = f"{peer.name} ({peer.kind}, {peer.zone}, {peer.model})"
        if not may_go(rules.policy, peer.zone):
            yield f"{where}: not asked, as prompts stay within {rules.policy.value!r} by default"
        else:
            yield f"{where}: {peer.problem or _answers(peer)}"
    yield _order(settings, ", then ".join(helpers(settings, peers)))


def _answers(peer: PeerHealth) -> str:
    room = peer.context_tokens
    return "answers" if room is None else f"answers, with {room:,} tokens of context"


def _order(settings: Config, others: str) -> str:
    """Return who answers, and who answers when that one cannot."""
    rules = Rules.of(settings)
    here = settings.model
    if here is None:
        return f"every request goes to {others or 'nobody: no peer answers'}"
    if rules.fallback == "never" or rules.policy is Policy.LOCAL or not others:
        return f"every request goes to {here} here; there is nobody else"
    if rules.fallback == "prefer-peer":
        return f"requests go to {others}, then {here} here"
    return (
        f"requests go to {here} here; without memory, model or time for it, or after a crash "
        f"before the first word, to {others}"
    )
