"""Puts together what health tells of who can answer. Plain values in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import LOCAL, PeerHealth
from edge_agent.serving.admission import Need, Place, Reason, place
from edge_agent.serving.peers.breaker import Standing
from edge_agent.serving.peers.door import may_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_agent.ops.health import Served
    from edge_agent.serving.admission import Load, Rules
    from edge_agent.serving.peers.peer import PeerState

# A free slot, and a load that the request itself brings about.
_NO_OBSTACLES = {Reason.LOCAL, Reason.UNLOADED}


def answers(load: Load, peers: Sequence[PeerState], rules: Rules) -> tuple[str, ...]:
    """Return who can answer a request of the default policy, perhaps after a load.

    The first is asked first, as far as that does not depend on the request.
    """
    house = load.house
    is_here = house.state.can_answer and house.level is not Level.CRITICAL
    here = (LOCAL,) if is_here else ()
    if rules.fallback == "never" or rules.policy is Policy.LOCAL:
        return here
    there = tuple(
        peer.name
        for peer in peers
        if may_go(rules.policy, peer.zone) and peer.is_well and peer.breaker is not Standing.OPEN
    )
    decision = place(load, _small(rules.policy, num_peers=len(there)), rules)
    return there + here if decision.place is Place.PEER else here + there


def with_contexts(
    models: tuple[Served, ...], peers: Sequence[PeerState], rules: Rules
) -> tuple[Served, ...]:
    """Return `models`, each with the longest context it has at a peer where no engine tells one.

    That is not known while one of the peers has not told its own.
    """
    rooms = [peer.context_tokens for peer in peers if may_go(rules.policy, peer.zone)]
    longest = max((room for room in rooms if room is not None), default=None)
    if longest is None or None in rooms:
        return models
    return tuple(
        replace(each, context_tokens=longest) if each.context_tokens is None else each
        for each in models
    )


def obstacles(load: Load, rules: Rules) -> tuple[str, ...]:
    """Return why the model here would not begin with a small request that comes now; () if so."""
    decision = place(load, _small(Policy.LOCAL), rules)
    is_in_line = decision.place is Place.WAIT and decision.reason is Reason.QUEUE
    if is_in_line or decision.reason in _NO_OBSTACLES:
        return ()
    return (f"{decision.reason}: {_why(load, decision.reason)}",)


def peers_health(peers: Iterable[PeerState]) -> tuple[PeerHealth, ...]:
    """Return how the peers are, in the words of health."""
    return tuple(
        PeerHealth(
            name=peer.name,
            kind=peer.kind,
            zone=peer.zone,
            model=peer.model,
            breaker=peer.breaker.value,
            running=peer.running,
            problem=peer.problem,
            context_tokens=peer.context_tokens,
            open_requests=peer.open_requests,
        )
        for peer in peers
    )


def _small(policy: Policy, *, num_peers: int = 0) -> Need:
    """Return what a request asks for that is no burden to anybody."""
    return Need(
        prompt_bytes=0,
        least_tokens=0,
        likely_tokens=0,
        needed_bytes=None,
        policy=policy,
        num_peers=num_peers,
    )


def _why(load: Load, reason: Reason) -> str:
    house = load.house
    if reason is Reason.PRESSURE:
        return f"memory is {house.level.name.lower()}"
    if reason is Reason.QUEUE:
        return f"{load.open_requests} requests are inside, the limit"
    return house.detail
