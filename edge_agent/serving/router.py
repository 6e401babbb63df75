"""Decides who answers a request and guards the rules that hold for every answer.

The rule of one answer: another source takes over only before the first piece of text or the first
call was delivered. Two answers are never joined.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from edge_agent.errors import (
    DeadlineExceeded,
    EdgeError,
    Expired,
    Internal,
)
from edge_agent.messages import Accepted, Delta, Done, Failed, ToolCall
from edge_agent.serving.admission import (
    Decision,
    Load,
    Place,
    Reason,
    expected_wait_s,
    next_pace_s,
    place,
)
from edge_agent.serving.last_words import Excuses, LastWords
from edge_agent.serving.peers.hops import refuse_loop
from edge_agent.serving.record import Record
from edge_agent.serving.visit import TAKEN_OVER, Visit
from edge_agent.worker.news import News

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from edge_agent.messages import Event, Events, Request
    from edge_agent.ops.story import Story
    from edge_agent.serving.admission import House, Need, Rules
    from edge_agent.serving.ledger import Entry, Ledger
    from edge_agent.serving.models import Models

logger = logging.getLogger(__name__)

# How often a request that waits for memory looks again by itself; changes of level wake it sooner.
LOOK_S = 0.5


class Backend(Protocol):
    """Something that answers requests: the engine process, the peers, and the router itself."""

    def stream(self, request: Request) -> Events:
        """Yield the events of `request`; the last one is `Done` or `Failed`, never an exception.

        Closing the generator cancels the request.
        """
        ...


class Helpers(Backend, Excuses, Protocol):
    """The peers, as one backend that tries one after the other."""

    def usable(self, request: Request) -> int:
        """Return how many peers may and can answer `request` now."""
        ...


class Sizes(Protocol):
    """Tells what a request needs."""

    def need(self, request: Request) -> Need:
        """Return what `request` asks for."""
        ...


class Tally(Protocol):
    """Counts what happened, for those who watch."""

    def refused(self, reason: str) -> None:
        """Count a request that was refused for `reason`."""

    def finished(self, story: Story) -> None:
        """Count a request that is over."""


class Router:
    """The door to the engine and the peers: model name, admission, deadline, and one log line."""

    def __init__(  # noqa: PLR0913  # its collaborators, each named
        self,
        engine: Backend,
        peers: Helpers,
        *,
        models: Models,
        rules: Rules,
        look: Callable[[], House],
        sizes: Sizes,
        ledger: Ledger,
        tally: Tally,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` tells how engine and memory are; `patience_s` is how long to wait for memory."""
        self._engine = engine
        self._peers = peers
        self._last_words = LastWords(peers, rules)
        self._models = models
        self._rules = rules
        self._look = look
        self._sizes = sizes
        self._ledger = ledger
        self._tally = tally
        self._patience_s = patience_s
        self._clock = clock
        self._pace_s: float | None = None
        self._news = News()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.is_draining = False
        self.open_requests = 0

    def drain(self) -> None:
        """Refuse every new request from now on; those inside go on."""
        self.is_draining = True

    async def wait_empty(self) -> None:
        """Return when no request is inside."""
        await self._emptied.wait()

    def changed(self) -> None:
        """Let those who wait for memory look again: something is different."""
        self._news.tell()

    def expected_wait_s(self, before: int | None = None) -> float | None:
        """Return when a request with `before` others in front of it would get a slot.

        `before` None: all that are inside now. None: no answer was timed yet.
        """
        if self._pace_s is None:
            return None
        inside = self._ledger.here if before is None else before
        return expected_wait_s(inside, self._pace_s, self._rules.slots)

    async def stream(self, request: Request) -> Events:
        """Yield the events of `request`, with exactly one `Done` or `Failed`, at the end.

        `Accepted` comes again when another takes over.
        """
        record = Record(request.id, began_s=self._clock())
        self.open_requests += 1
        self._emptied.clear()
        try:
            async with aclosing(self._dressed(request, record)) as events:
                async for event in events:
                    record.note(event, now_s=self._clock())
                    yield event
        finally:
            self.open_requests -= 1
            if not self.open_requests:
                self._emptied.set()
            self.changed()
            self._learn(record)
            self._tally.finished(record.story(now_s=self._clock()))
            logger.info(*record.line(now_s=self._clock()))

    async def _dressed(self, request: Request, record: Record) -> Events:
        """Yield the events of `request` as the model shall see it."""
        try:
            refuse_loop(request)
            request = self._models.dress(request)
        except EdgeError as exc:
            yield Failed.of(exc)
            return
        request = replace(request, policy=request.policy or self._rules.policy)
        visit = Visit(request, record, self._sizes.need(request))
        async with aclosing(self._attempts(visit)) as events:
            async for event in events:
                visit.note(event)
                yield event

    async def _attempts(self, visit: Visit) -> Events:
        """Ask one source after the other, as the rules allow; yield what they say."""
        while True:
            decision, need, refused = self._place(visit)
            if refused is not None:
                self._tally.refused(decision.reason)
                yield refused
                return
            if decision.place is Place.WAIT and decision.reason is Reason.PRESSURE:
                if failed := await self._wait_for_memory(visit, need):
                    yield failed
                    return
                continue
            visit.is_inside, is_over = True, False
            async with aclosing(self._from(visit, decision, need)) as events:
                async for event in events:
                    if isinstance(event, Failed) and self._goes_on(visit, decision, event):
                        break
                    is_over = isinstance(event, Done | Failed)
                    yield visit.last_word(event)
            if is_over:
                return

    def _place(self, visit: Visit) -> tuple[Decision, Need, Failed | None]:
        """Return where `visit` goes next, and the refusal if it goes nowhere."""
        num_peers = 0 if visit.failed_there else self._usable_peers(visit.request)
        left_s = visit.left_s(self._clock())
        need = dataclasses.replace(visit.need, left_s=left_s, num_peers=num_peers)
        if visit.failed_here is not None:
            reason = TAKEN_OVER[visit.failed_here.code]
            return Decision(Place.PEER, reason), need, None if num_peers else visit.failed_here
        load = self.load(visit)
        decision = place(load, need, self._rules)
        if decision.place is not Place.REFUSE:
            return visit.in_turn(decision), need, None
        return decision, need, self._last_words.to(visit, decision.reason, load, need)

    def load(self, visit: Visit | None = None) -> Load:
        """Return what the house looks like to somebody new at the door, or to `visit`."""
        return Load(
            house=self._look(),
            open_requests=self._ledger.here,
            open_bytes=self._ledger.here_bytes,
            pace_s=self._pace_s,
            # Who is inside may change places while the daemon goes down.
            is_draining=self.is_draining and not (visit and visit.is_inside),
        )

    def _usable_peers(self, request: Request) -> int:
        # Nobody is kept waiting there: as many as may be inside here are enough.
        if self._ledger.there >= self._rules.slots + self._rules.queue_requests:
            return 0
        return self._peers.usable(request)

    def _goes_on(self, visit: Visit, decision: Decision, failed: Failed) -> bool:
        """Return whether another source answers after `failed`, or the same one later."""
        if visit.is_given_back(failed):
            return True
        if decision.place is Place.PEER:
            return visit.returns(failed)
        is_there = self._rules.fallback != "never" and self._usable_peers(visit.request) > 0
        return is_there and visit.leaves(failed)

    async def _from(self, visit: Visit, decision: Decision, need: Need) -> Events:
        """Yield the events of one source, up to and with its `Done` or `Failed`."""
        request = visit.request
        left_s = visit.left_s(self._clock())
        if left_s is not None:
            request = replace(request, deadline_s=left_s)
        is_there = decision.place is Place.PEER
        source: Backend = self._peers if is_there else self._engine
        reason = decision.reason if is_there else visit.reason_here
        with self._counted(decision, need) as entry:
            async with aclosing(source.stream(request)) as events:
                is_over = False
                while not is_over:
                    event = await self._next(events, visit)
                    is_over = isinstance(event, Done | Failed)
                    if isinstance(event, Accepted):
                        event = replace(event, reason=reason)
                    if isinstance(event, Delta | ToolCall) and not is_there:
                        self._ledger.has_read(entry)
                    yield event

    def _counted(self, decision: Decision, need: Need) -> AbstractContextManager[Entry]:
        is_there = decision.place is Place.PEER
        return self._ledger.at_peer(need) if is_there else self._ledger.at_engine(need)

    async def _wait_for_memory(self, visit: Visit, need: Need) -> Failed | None:
        """Return None when it is worth looking again, else why there is no more waiting."""
        now_s = self._clock()
        if visit.held_since_s is None:
            visit.held_since_s = now_s
        left_s = visit.left_s(now_s)
        patience_s = visit.held_since_s + self._patience_s - now_s
        if left_s == 0:
            return Failed.of(Expired(visit.request.deadline_s or 0.0))
        if patience_s <= 0:
            self._tally.refused(Reason.PRESSURE)
            return self._last_words.to(visit, Reason.PRESSURE, self.load(visit), need)
        with self._ledger.at_door(need), suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_S, patience_s, left_s or LOOK_S)):
                await self._news.wait()
        return None

    async def _next(self, events: Events, visit: Visit) -> Event:
        """Return the next event of a source, or how its stream broke off."""
        deadline_s = visit.request.deadline_s
        try:
            # Around each wait and not around the stream: a time limit must not strike a reader.
            async with asyncio.timeout(visit.left_s(self._clock())):
                return await anext(events)
        except TimeoutError:
            limit_s = deadline_s or 0.0
            is_started = visit.record.is_accepted
            return Failed.of(DeadlineExceeded(limit_s) if is_started else Expired(limit_s))
        except StopAsyncIteration:
            logger.error("stream broke off id=%s", visit.request.id)  # noqa: TRY400  # its trace says nothing
        except Exception:
            logger.exception("bug while answering id=%s", visit.request.id)
        return Failed.of(Internal())

    def _learn(self, record: Record) -> None:
        if record.done and record.is_local:
            timings = record.done.timings
            self._pace_s = next_pace_s(self._pace_s, timings.prefill_s + timings.decode_s)
