"""Who has a slot, and who waits for one: carries out what the scheduler decides.

A preempted request keeps all it is (tokens, sampler, text) and loses its slot; what it has computed
stays there as a kept prefix, and it goes on from that, or computes again what had to be given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.answer import RunningAnswer
from edge_agent.engine.clock import Clock
from edge_agent.engine.scheduler.order import Claim, moves
from edge_agent.engine.scheduler.plan import SlotState
from edge_agent.engine.scheduler.shares import Shares
from edge_agent.errors import Cancelled, DeadlineExceeded, Expired, Overloaded
from edge_agent.messages import Failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edge_agent.engine.answer import Prepared
    from edge_agent.engine.decoder import Decoder
    from edge_agent.engine.prefix import Drop, Prefixes

# What a client is told to wait when the queue is full and nothing has finished yet.
_FULL_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose turn it is: the ids of requests that got a slot, and of those that lost theirs."""

    started: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A request from its submission to its end."""

    number: int
    prepared: Prepared
    clock: Clock
    answer: RunningAnswer | None = None
    """Once it had a slot."""

    def claim(self, now_s: float) -> Claim:
        return Claim(
            number=self.number,
            priority=self.prepared.priority,
            client=self.prepared.client,
            waited_s=self.clock.waited_s(now_s),
        )


class Slots:
    """The requests of an engine, with and without a slot."""

    def __init__(
        self,
        decoder: Decoder,
        prefixes: Prefixes,
        *,
        slots: int,
        queue_requests: int,
        ageing_s: float,
    ) -> None:
        """Up to `slots` run at once in rows of the arena of `decoder`; so many may wait.

        Who waits for `ageing_s` counts as one priority higher.
        """
        self.running: dict[int, RunningAnswer] = {}
        """By slot."""
        self._arena = decoder.arena
        self._rope = decoder.rope
        self._vocab = decoder.vocab
        self._prefixes = prefixes
        self._slots = slots
        self._queue_requests = queue_requests
        self._ageing_s = ageing_s
        self._numbers = count()
        self._shares = Shares()
        self._waiting: dict[int, _Entry] = {}
        self._holding: dict[int, _Entry] = {}

    @property
    def waiting(self) -> int:
        """Number of requests without a slot."""
        return len(self._waiting)

    def join(self, prepared: Prepared, now_s: float) -> None:
        """Put a request in line.

        Raises:
            Overloaded: the line is full.
        """
        if len(self._waiting) >= self._queue_requests:
            reason = f"{len(self._waiting)} requests are waiting, the limit"
            raise Overloaded(reason, _FULL_RETRY_S)
        clock = Clock(submitted_s=now_s)
        if prepared.deadline_s is not None:
            clock.due_s = now_s + prepared.deadline_s
        number = next(self._numbers)
        self._waiting[number] = _Entry(number=number, prepared=prepared, clock=clock)
        self._shares.arrive(prepared.client)

    def turn(self, now_s: float) -> Turn:
        """Give and take slots for the next step, to each request the one that saves it most."""
        if not self._waiting:
            return Turn()
        decided = moves(
            [entry.claim(now_s) for entry in self._waiting.values()],
            [entry.claim(now_s) for entry in self._holding.values()],
            slots=self._slots,
            served=self._shares.served,
            ageing_s=self._ageing_s,
        )
        paused = [self._pause(self._holding[number], now_s) for number in decided.preempt]
        started = [self._start(self._waiting[number], now_s) for number in decided.admit]
        return Turn(started=tuple(started), paused=tuple(paused))

    def share(self) -> None:
        """Copy to prompts what other slots hold more of, also of requests that came together."""
        for answer in self.running.values():
            copy = self._prefixes.share(answer.slot) if answer.unread else None
            if copy:
                self._arena.copy(copy.source, copy.target, start=copy.start, stop=copy.stop)
                answer.take_over(copy.stop - copy.start)

    def states(self, now_s: float) -> list[SlotState]:
        """Return those that run, as the planner sees them."""
        return [
            SlotState(
                slot=answer.slot,
                arrival=entry.number,
                unread=answer.unread,
                rank=entry.claim(now_s).rank(ageing_s=self._ageing_s),
                kin=self._prefixes.kin(answer.slot) if answer.unread else (),
            )
            for entry in self._holding.values()
            if (answer := entry.answer)
        ]

    def position_offset(self, total_tokens: int) -> int:
        """Return where positions begin in the rope tables, for a request of so many tokens.

        The mode is fixed for life: a request that can grow long is long from its start.
        """
        return self._rope.long_offset if total_tokens > self._rope.short_limit else 0

    def charge(self, answer: RunningAnswer, tokens: int) -> None:
        """Count `tokens` that were computed for `answer`."""
        self._shares.charge(answer.prepared.client, tokens)

    def release(self, answer: RunningAnswer) -> None:
        """Take back the slot of an answer that is over, before the next step."""
        self._shares.leave(self._holding.pop(answer.arrival).prepared.client)
        self._vacate(answer, awaited_by=None)

    def cancel(self, request_id: str) -> Iterator[tuple[str, Failed]]:
        """End the request of that id, if it is here; yield what to tell."""
        for entry in self._entries():
            if entry.prepared.id == request_id:
                yield self._end(entry, Failed.of(Cancelled()))

    def expire(self, now_s: float) -> Iterator[tuple[str, Failed]]:
        """End every request whose deadline has passed; yield what to tell."""
        for entry in self._entries():
            if entry.clock.is_over(now_s):
                limit_s = entry.prepared.deadline_s or 0.0
                error = DeadlineExceeded(limit_s) if entry.answer else Expired(limit_s)
                yield self._end(entry, Failed.of(error))

    def clear(self) -> None:
        """Forget all requests."""
        for entry in self._entries():
            self._end(entry, Failed.of(Cancelled()))

    def drop(self, drops: Iterable[Drop]) -> None:
        """Give back the pages of what is not kept any more."""
        for drop in drops:
            self._arena.release(drop.slot, keep_tokens=drop.keep_tokens)

    def _entries(self) -> list[_Entry]:
        return [*self._waiting.values(), *self._holding.values()]

    def _start(self, entry: _Entry, now_s: float) -> str:
        """Give a slot to a request that waits, for the first time or again."""
        del self._waiting[entry.number]
        self._holding[entry.number] = entry
        entry.clock.has_slot(now_s)
        known = entry.answer.known if entry.answer else entry.prepared.prompt
        offset = self.position_offset(len(entry.prepared.prompt) + entry.prepared.max_tokens)
        place = self._prefixes.place(np.asarray(known, np.int32), offset=offset)
        if not place.is_clean:
            self._arena.release(place.slot, keep_tokens=place.kept_tokens)
        if entry.answer:
            self._prefixes.abandon(entry.number)
            entry.answer.resume(place.slot, kept_tokens=place.kept_tokens)
        else:
            entry.answer = RunningAnswer(
                entry.prepared,
                slot=place.slot,
                vocab=self._vocab,
                arrival=entry.number,
                clock=entry.clock,
            )
            entry.answer.take_over(place.kept_tokens)
        self.running[place.slot] = entry.answer
        return entry.prepared.id

    def _pause(self, entry: _Entry, now_s: float) -> str:
        """Take the slot of a request that goes on later."""
        del self._holding[entry.number]
        self._waiting[entry.number] = entry
        entry.clock.waits(now_s)
        if entry.answer:
            self._vacate(entry.answer, awaited_by=entry.number)
        return entry.prepared.id

    def _end(self, entry: _Entry, failed: Failed) -> tuple[str, Failed]:
        if entry.number in self._waiting:
            del self._waiting[entry.number]
            self._prefixes.abandon(entry.number)
            self._shares.leave(entry.prepared.client)
        elif entry.answer:
            self.release(entry.answer)
        return entry.prepared.id, failed

    def _vacate(self, answer: RunningAnswer, *, awaited_by: int | None) -> None:
        del self.running[answer.slot]
        self.drop(self._prefixes.finish(answer.slot, awaited_by=awaited_by))
