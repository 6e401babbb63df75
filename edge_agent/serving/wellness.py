"""Puts together what health tells of who can answer. Plain values in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import LOCAL, PeerHealth
from edge_agent.serving.admission import Need, Place, Reason, place
from edge_agent.serving.peers.breaker import Standing
from edge_agent.serving.peers.door import may_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_agent.serving.admission import House, Load, Rules
    from edge_agent.serving.peers.peer import PeerState

# A free slot, and a load that the request itself brings about.
_NO_OBSTACLES = {Reason.LOCAL, Reason.UNLOADED}


def answers(house: House, peers: Sequence[PeerState], rules: Rules) -> tuple[str, ...]:
    """Return who can answer a request of the default policy, perhaps after a load."""
    is_here = house.state.can_answer and house.level is not Level.CRITICAL
    here = (LOCAL,) if is_here else ()
    if rules.fallback == "never" or rules.policy is Policy.LOCAL:
        return here
    return here + tuple(
        peer.name
        for peer in peers
        if may_go(rules.policy, peer.zone) and peer.breaker is not Standing.OPEN
    )


def obstacles(load: Load, rules: Rules) -> tuple[str, ...]:
    """Return why the model here would not begin with a small request that comes now; () if so."""
    need = Need(
        prompt_bytes=0, least_tokens=0, likely_tokens=0, needed_bytes=None, policy=Policy.LOCAL
    )
    decision = place(load, need, rules)
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


def _why(load: Load, reason: Reason) -> str:
    house = load.house
    if reason is Reason.PRESSURE:
        return f"memory is {house.level.name.lower()}"
    if reason is Reason.QUEUE:
        return f"{load.open_requests} requests are inside, the limit"
    return house.detail
