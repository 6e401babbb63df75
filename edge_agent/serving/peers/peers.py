"""All peers: who may be asked, in which order, and how they are."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError, TooLongForPeer, Unsupported
from edge_agent.messages import Policy
from edge_agent.serving.peers.door import Door, may_go
from edge_agent.serving.peers.errand import Errand
from edge_agent.serving.peers.peer import Peer, PeerState
from edge_agent.serving.peers.relay import Relay
from edge_agent.serving.peers.retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent import config
    from edge_agent.errors import EdgeError
    from edge_agent.messages import Events, Request

logger = logging.getLogger(__name__)

# Often enough to know within half a minute that a peer is back; a site's gateways do not all ask
# in the same second.
PROBE_EVERY_S = 10.0
PROBE_SPREAD = 0.4
FIRST_PROBE_WITHIN_S = 0.5
# A peer that only requests with a policy of their own may reach is probed while there are such.
WANTED_FOR_S = 600.0
_MOST_KEY_BYTES = 8192


class Peers:
    """The peers of this gateway."""

    def __init__(
        self,
        settings: Sequence[config.Peer],
        routing: config.Routing,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make them; nothing is sent yet.

        Raises:
            ConfigError: the key file of a peer cannot be used.
        """
        self._policy = Policy(routing.policy)
        self._clock = clock
        self._chance = chance
        self._peers = tuple(
            Peer(each, Door(each, _key(each)), clock=clock, chance=chance) for each in settings
        )
        self._relay = Relay(RetryBudget(), clock)
        self._wanted_until_s: dict[str, float] = {}

    def candidates(self, request: Request) -> tuple[Peer, ...]:
        """Return the peers that can be asked now, the one to ask first first."""
        errand = self._errand(request)
        now_s = self._clock()
        for peer in self._peers:
            if may_go(errand.policy, peer.settings.zone):
                self._wanted_until_s[peer.name] = now_s + WANTED_FOR_S
        able = [peer for peer in self._peers if peer.obstacle(errand) is None]
        return tuple(sorted(able, key=lambda peer: peer.rank(errand)))

    def why_not(self, request: Request) -> str:
        """Return why no peer can be asked now, as one line."""
        errand = self._errand(request)
        obstacles = ((peer.name, peer.obstacle(errand)) for peer in self._peers)
        return "; ".join(f"{name} {why}" for name, why in obstacles if why) or "there is no peer"

    def barred(self, request: Request) -> str:
        """Return which peers only the policy keeps `request` from, as one line; empty if none."""
        errand = self._errand(request)
        able = (peer for peer in self._peers if not peer.known.inability(errand))
        bars = ((peer.name, peer.bar(errand)) for peer in able)
        return "; ".join(f"{name} {why}" for name, why in bars if why)

    def refusal(self, request: Request) -> EdgeError | None:
        """Return why none of the peers that may be asked will ever answer `request` as it is.

        None if there is no such peer, or one may answer later: it is busy, or not known yet.
        """
        errand = self._errand(request)
        allowed = [peer for peer in self._peers if may_go(errand.policy, peer.settings.zone)]
        reasons = {peer.name: peer.unfitness(errand) for peer in allowed if peer.known.is_certain}
        if not allowed or len(reasons) < len(allowed) or not all(reasons.values()):
            return None
        for peer in allowed:
            if why := peer.known.shortness(errand):
                return TooLongForPeer(peer.name, why)
        return Unsupported("; ".join(f"peer {name!r} {why}" for name, why in reasons.items()))

    def stream(
        self, request: Request, candidates: Sequence[Peer], deadline_s: float | None
    ) -> Events:
        """Return the events of `request`, answered by one of `candidates` (see `Relay.stream`)."""
        return self._relay.stream(self._errand(request), candidates, deadline_s)

    def states(self) -> tuple[PeerState, ...]:
        """Return how each peer is, in the order of the configuration."""
        return tuple(peer.state() for peer in self._peers)

    async def probe(self) -> None:
        """Find out at once how every peer is that prompts of the default policy may reach."""
        await asyncio.gather(*(peer.probe(self._policy) for peer in self._probed()))

    async def run(self) -> None:
        """Keep an eye on all peers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for peer in self._peers:
                tasks.create_task(self._watch(peer), name=f"peer {peer.name}")

    async def close(self) -> None:
        """End all connections."""
        for peer in self._peers:
            await peer.close()

    def _errand(self, request: Request) -> Errand:
        return Errand.of(request, request.policy or self._policy)

    def _probed(self) -> list[Peer]:
        """Return the peers that may be probed; who gets no prompts hears nothing of us at all."""
        now_s = self._clock()
        return [
            peer
            for peer in self._peers
            if may_go(self._policy, peer.settings.zone)
            or now_s < self._wanted_until_s.get(peer.name, now_s)
        ]

    async def _watch(self, peer: Peer) -> None:
        await asyncio.sleep(FIRST_PROBE_WITHIN_S * self._chance())
        while True:
            if peer in self._probed():
                try:
                    await peer.probe(Policy.ANY)
                except Exception:
                    logger.exception("bug while probing peer name=%s", peer.name)
            await asyncio.sleep(PROBE_EVERY_S * (1 + PROBE_SPREAD * self._chance()))


def _key(settings: config.Peer) -> str | None:
    """Return the key to send: the first line of its file.

    Raises:
        ConfigError: the file cannot be read, or its first line is no key.
    """
    if settings.api_key_file is None:
        return None
    where = f"peers.{settings.name}.api_key_file {settings.api_key_file}"
    try:
        with Path(settings.api_key_file).open(encoding="utf-8") as file:
            key = file.readline(_MOST_KEY_BYTES).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(where, str(exc)) from exc
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        problem = "its first line is no key"
        raise ConfigError(where, problem)
    return key
