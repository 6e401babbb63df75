"""One peer: whether it may be asked, what it answers, and what is remembered of that."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Struct

from edge_agent.messages import Accepted, Done, Timings
from edge_agent.serving.peers import breaker
from edge_agent.serving.peers.breaker import Breaker, Fault, Standing
from edge_agent.serving.peers.capability import Flavour
from edge_agent.serving.peers.door import may_go
from edge_agent.serving.peers.exchange import Exchange, Order
from edge_agent.serving.peers.known import Known
from edge_agent.serving.peers.probe import look
from edge_agent.serving.peers.reply import End
from edge_agent.serving.peers.trouble import Kind, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent import config
    from edge_agent.messages import Events, Policy
    from edge_agent.serving.peers.door import Door
    from edge_agent.serving.peers.errand import Errand

logger = logging.getLogger(__name__)


class PeerState(Struct, frozen=True, kw_only=True):
    """How a peer is, for health, metrics and status; `problem` is what was last wrong with it."""

    name: str
    kind: str
    zone: str
    model: str
    flavour: Flavour
    breaker: Standing
    running: int
    is_well: bool = True
    """As the last probe saw it; who was not probed yet may be."""
    problem: str | None = None
    context_tokens: int | None = None
    open_requests: int | None = None
    """What it had to do when it was last looked at, whoever asked; None if it does not tell."""


class Peer:
    """A server that may answer in our place."""

    def __init__(
        self,
        settings: config.Peer,
        door: Door,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.running = 0
        self.is_well = True
        """As the last probe saw it; who was not probed yet may be."""
        self.known = Known.by_configuration(settings)
        self._problem: str | None = None
        self._door = door
        self._clock = clock
        self._chance = chance
        self._breaker = Breaker()

    @property
    def standing(self) -> Standing:
        """Whether requests pass."""
        return breaker.standing(self._breaker, self._clock())

    def state(self) -> PeerState:
        """Return how it is at this moment."""
        settings = self.settings
        return PeerState(
            name=self.name,
            kind=settings.kind,
            zone=settings.zone,
            model=settings.model,
            flavour=self.known.found.ability.flavour,
            breaker=self.standing,
            running=self.running,
            is_well=self.is_well,
            problem=self._problem,
            context_tokens=self.known.found.ability.context_tokens,
            open_requests=self.known.found.open_requests,
        )

    def rank(self, errand: Errand) -> tuple[bool, bool, int, bool, int]:
        """Return its place in the queue of those that may be asked, smaller is sooner.

        Those that probes reach, that have the room, by priority; those whose model is in memory,
        then those with less to do.
        """
        known, priority = self.known, self.settings.priority
        is_tight = not known.has_room(errand)
        return not self.is_well, is_tight, -priority, known.is_cold, known.work(self.running)

    def obstacle(self, errand: Errand) -> str | None:
        """Return why `errand` cannot go there now, to follow the name; None if it can."""
        return self.unfitness(errand) or self._closed_door()

    def unfitness(self, errand: Errand) -> str | None:
        """Return why `errand` can never go there, as far as is known of the peer."""
        return self.bar(errand) or self.known.inability(errand)

    def bar(self, errand: Errand) -> str | None:
        """Return why `errand` must not go there; None if it may."""
        if may_go(errand.policy, self.settings.zone):
            return None
        return f"is in zone {self.settings.zone}, and the policy is {errand.policy.value!r}"

    def _closed_door(self) -> str | None:
        """Return why nothing can go there now."""
        match self.standing:
            case Standing.OPEN:
                return f"fails (last: {self._problem})"
            case Standing.RESTING:
                return "is busy"
            case Standing.HALF_OPEN if self.running:
                return "is being tried"
            case Standing.CLOSED | Standing.HALF_OPEN:
                most = self.settings.max_concurrent
                is_full = most is not None and self.running >= most
                return f"has {most} requests, the limit" if is_full else None

    async def ask(self, errand: Errand, deadline_s: float | None) -> Events:
        """Yield `Accepted`, the answer as it comes, and `Done`.

        `Accepted` comes with the first piece of the answer: until then another may take over.
        `deadline_s` is a reading of the clock.

        Raises:
            Trouble: there is no (further) answer.
        """
        began_s = self._clock()
        first_s: float | None = None
        if self.settings.kind == "ollama":
            self.known = self.known.loaded_for(errand, self.settings.context)
        found = self.known.found
        order = Order(
            errand=errand,
            flavour=found.ability.flavour,
            names=found.names,
            deadline_s=deadline_s,
            context_tokens=found.loaded_tokens,
        )
        exchange = Exchange(self.settings, self._door, order, self._clock)
        self.running += 1
        try:
            async with aclosing(exchange.pieces()) as pieces:
                async for piece in pieces:
                    if first_s is None:
                        first_s = self._clock()
                        yield Accepted(prompt_tokens=None, served_by=self.name)
                    if isinstance(piece, End):
                        # Before it is told: whoever hears it need not come back.
                        self._change(breaker.succeeded(self._breaker, self._clock()), None)
                        yield _done(piece, began_s, first_s, self._clock())
                    else:
                        yield piece
        except Trouble as trouble:
            self._note(trouble)
            raise
        finally:
            self.running -= 1

    async def probe(self, policy: Policy) -> None:
        """Find out how it is."""
        finding = await look(self._door, self.settings, policy, self.known.found)
        self.is_well = finding.problem is None
        if self.is_well:
            self.known = self.known.probed(finding, self.running)
        after = breaker.probed(self._breaker, self._clock(), is_well=self.is_well)
        # One that answers badly is not well because it is there.
        is_closed = after.open_until_s is None
        self._change(after, finding.problem if is_closed or finding.problem else self._problem)

    async def close(self) -> None:
        """End all connections."""
        await self._door.close()

    def _note(self, trouble: Trouble) -> None:
        """Remember that it did not answer, as far as that is its own doing."""
        now_s = self._clock()
        match trouble.kind:
            case Kind.AWAY:
                self._change(breaker.failed(self._breaker, Fault.AWAY, now_s), trouble.cause)
            case Kind.WRONG:
                self._change(breaker.failed(self._breaker, Fault.WRONG, now_s), trouble.cause)
            case Kind.BUSY:
                asked_s, chance = trouble.error.retry_after_s, self._chance()
                rested = breaker.rested(self._breaker, now_s, asked_s=asked_s, chance=chance)
                self._change(rested, trouble.cause)
            case Kind.UNFIT | Kind.REFUSED | Kind.LATE:
                pass

    def _change(self, after: Breaker, problem: str | None) -> None:
        """Remember; the log has it when the breaker opens and when it closes."""
        was_open, is_open = self._breaker.open_until_s is not None, after.open_until_s is not None
        self._breaker = after
        self._problem = problem
        if is_open and not was_open:
            logger.warning("peer is not asked any more name=%s problem=%s", self.name, problem)
        if was_open and not is_open:
            logger.info("peer is asked again name=%s", self.name)


def _done(end: End, began_s: float, first_s: float, now_s: float) -> Done:
    """Return the end of an answer; what the peer did before its first piece is one wait to us."""
    timings = Timings(
        queue_s=0.0, prefill_s=round(first_s - began_s, 6), decode_s=round(now_s - first_s, 6)
    )
    return Done(finish_reason=end.finish_reason, usage=end.usage, timings=timings, stop=end.stop)
