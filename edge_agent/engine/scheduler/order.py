"""Decides who gets a slot, and who gives one up. Plain values in and out: time is an argument.

Three rules, in this order. Priority: high before normal before low; who has waited for `ageing_s`
counts as one priority higher. Fair share: of equals, the client with the fewest slots goes first,
then the one for which the fewest tokens were computed. Age: then who came first.

Nobody starves: who has waited once more for `ageing_s` as one of the highest is overdue, goes
before all that are not, and overdue requests go in the order in which they came. So at most those
that were inside before it, and hold the slots or are overdue, go before any request.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.messages import Priority
from edge_agent.precedence import OVERDUE, RANK, rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request that has a slot or wants one."""

    number: int
    """Rises with each request: who came first."""
    priority: Priority
    client: str
    """Whom it counts for."""
    waited_s: float
    """Without a slot, all its life; the time in a slot does not count."""

    def rank(self, *, ageing_s: float) -> int:
        """Return what it counts for (`precedence.rank`)."""
        return rank(self.priority, waited_s=self.waited_s, ageing_s=ageing_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What changes before the next step, by the numbers of the requests."""

    admit: tuple[int, ...] = ()
    preempt: tuple[int, ...] = ()
    """They give their slots to some of those that are admitted."""


def moves(
    waiting: Sequence[Claim],
    holding: Sequence[Claim],
    *,
    slots: int,
    served: Mapping[str, float],
    ageing_s: float,
) -> Moves:
    """Return who of `waiting` gets a slot now, and who of `holding` makes room.

    One of high priority by its own right takes the slot of one that still counts as low, the
    newest first: it has done the least, and what it has done is kept as long as memory allows.

    Args:
        waiting: requests without a slot.
        holding: requests with a slot.
        slots: how many may have one.
        served: tokens that were computed for each client; who is not in it had none.
        ageing_s: who waits so long counts as one priority higher.
    """
    held = Counter(claim.client for claim in holding)

    def key(claim: Claim) -> tuple[float, ...]:
        level = claim.rank(ageing_s=ageing_s)
        if level == OVERDUE:
            return -level, 0, 0, claim.number
        return -level, held[claim.client], served.get(claim.client, 0.0), claim.number

    left = list(waiting)
    admit: list[int] = []
    preempt: list[int] = []
    for _ in range(min(slots - len(holding), len(left))):
        _admit(min(left, key=key), left, admit, held)
    urgent = [claim for claim in left if claim.priority is Priority.HIGH]
    for victim in _victims(holding, ageing_s)[: len(urgent)]:
        held[victim.client] -= 1
        preempt.append(victim.number)
        _admit(min(urgent, key=key), urgent, admit, held)
    return Moves(admit=tuple(admit), preempt=tuple(preempt))


def _admit(claim: Claim, line: list[Claim], admit: list[int], held: Counter[str]) -> None:
    line.remove(claim)
    admit.append(claim.number)
    held[claim.client] += 1


def _victims(holding: Sequence[Claim], ageing_s: float) -> list[Claim]:
    """Return those that may be preempted, in that order.

    Each preemption makes its victim wait, and waiting ends this: nobody is preempted for ever.
    """
    low = [claim for claim in holding if claim.rank(ageing_s=ageing_s) == RANK[Priority.LOW]]
    return sorted(low, key=lambda claim: -claim.number)
