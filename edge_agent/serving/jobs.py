"""The queue that outlives the process: takes requests in, gives each its turn, keeps its promises.

Owns which job runs when. How one runs is the runner's; what is on disk is the journal's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from edge_agent.dialects import envelope
from edge_agent.errors import Busy, Cancelled, Poison
from edge_agent.messages import Failed
from edge_agent.serving import turns
from edge_agent.serving.runner import Run, Runner
from edge_agent.serving.tasks import ended, watched
from edge_agent.worker.backoff import wait_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Config
    from edge_agent.serving.job import Draft, Result, Taken, Ticket
    from edge_agent.serving.journal import Journal
    from edge_agent.serving.router import Backend
    from edge_agent.serving.runner import Outlet

logger = logging.getLogger(__name__)

# Deadlines are looked at this often: a job that waits is late to expire by at most so much.
TICK_S = 1.0
# A disk that failed is asked again so often; so is the space on one that did not.
PROBE_S = 5.0
# Results are kept for hours; a minute more costs nothing.
SWEEP_S = 60.0
# One more than the engine has slots, so that a free slot never waits for the disk.
EXTRA_RUNS = 1


class Jobs:
    """The queue that outlives the process, and its workers."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        backend: Backend,
        *,
        expected_wait_s: Callable[[int], float | None] = lambda _before: None,
    ) -> None:
        """`expected_wait_s` tells when a job with so many others before it is begun, if it can."""
        self.expected_wait_s = expected_wait_s
        self._config = config
        engine = config.engine
        self._limits = turns.Limits(
            most_equals=engine.slots + EXTRA_RUNS,
            # More than that the engine has no room for.
            most_in_all=engine.slots + engine.queue_requests,
            max_crashes=engine.max_crashes,
        )
        self._journal = journal
        self._runner = Runner(config, journal, backend)
        self._waiting: dict[int, Ticket] = {}
        self._running: dict[int, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._submissions: set[asyncio.Task[tuple[Taken, int]]] = set()
        self._wake = asyncio.Event()
        self._tender: asyncio.Task[None] | None = None
        self._seen_opening = 0
        self._is_draining = False
        self._failures = 0
        self._held_until_s = 0.0

    @property
    def open(self) -> int:
        """Jobs without a result."""
        return len(self._waiting) + len(self._running)

    @property
    def durability(self) -> str:
        """`full` or `none`, as the journal says."""
        return self._journal.durability

    @property
    def problem(self) -> str | None:
        """Why nothing can be accepted now, or None."""
        return self._journal.problem

    def attach(self, outlet: Outlet) -> None:
        """Send deltas and the news of results to `outlet` from now on."""
        self._runner.outlet = outlet

    async def start(self) -> None:
        """Take up every job that an earlier daemon left, then run jobs until `close`."""
        await self._take_up()
        self._tender = watched(self._tend(), "jobs")

    async def drain(self) -> None:
        """Start no more jobs, and return when none runs; those that wait stay on disk."""
        self._is_draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop; jobs that run go back to the queue without blame."""
        self._is_draining = True
        await asyncio.gather(*self._submissions, return_exceptions=True)
        await ended(self._tender, *self._tasks)

    async def submit(self, draft: Draft) -> tuple[Taken, int]:
        """Return once `draft` is on disk, with the number of jobs before it.

        Raises:
            Conflict: the same key came before with another payload.
            Busy: the journal cannot take it.
        """
        # Whoever hands it in may be cut off meanwhile; what is on disk must get its turn even so.
        work = asyncio.create_task(self._submit(draft), name=f"submit {draft.request.id}")
        self._submissions.add(work)
        work.add_done_callback(self._submissions.discard)
        return await asyncio.shield(work)

    async def _submit(self, draft: Draft) -> tuple[Taken, int]:
        taken = await self._journal.accept(draft)
        seq = taken.ticket.seq
        if taken.is_done and self._runner.outlet:
            self._runner.outlet.result_ready(seq)
        if taken.is_new:
            self._queue(taken.ticket)
        return taken, self._before(seq)

    async def cancel(self, source: str, *, job_id: str | None, correlation: bytes | None) -> bool:
        """End the open job that goes by this name; False if there is none, or more than one."""
        seqs = await self._journal.find(source, job_id=job_id, correlation=correlation)
        if len(seqs) != 1:
            return False
        if run := self._running.get(seqs[0]):
            run.cancel()
        elif ticket := self._waiting.pop(seqs[0], None):
            await self._runner.settle(ticket, Failed.of(Cancelled()))
        return True

    async def outbox(self, most: int, skip: set[int]) -> list[Result]:
        """Return up to `most` results that nobody confirmed, oldest first, without `skip`."""
        return await self._journal.outbox(most, frozenset(skip))

    async def published(self, seq: int) -> None:
        """Note that a result was confirmed."""
        await self._journal.published(seq)

    async def shrink(self, result: Result, limit_bytes: int) -> None:
        """Put an error in the place of a result that is larger than the wire has become."""
        failed = envelope.result_too_large(len(result.body), limit_bytes)
        body = envelope.error(result.id, seq=0, attempt=1, failed=failed)
        await self._journal.replace(result.seq, body)

    async def forget_packet_ids(self, source: str) -> None:
        """Forget the packet ids of a wire whose session is new."""
        await self._journal.forget_packet_ids(source)

    def _before(self, seq: int) -> int:
        """Return how many jobs run, or are to run, before the one of that number."""
        ticket = self._waiting.get(seq)
        if ticket is None:
            return sum(other < seq for other in self._running)
        place = self._places()
        own = place(ticket)
        return len(self._running) + sum(place(other) < own for other in self._waiting.values())

    def _queue(self, ticket: Ticket) -> None:
        if ticket.since_s is None:
            ticket.since_s = asyncio.get_running_loop().time()
        self._waiting[ticket.seq] = ticket
        self._wake.set()

    def _places(self) -> turns.Places:
        return turns.places(
            (run.ticket for run in self._running.values()),
            now_s=asyncio.get_running_loop().time(),
            ageing_s=self._config.engine.ageing_s,
        )

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        probe_at_s = sweep_at_s = loop.time()
        while True:
            self._wake.clear()
            if loop.time() >= probe_at_s:
                probe_at_s = loop.time() + PROBE_S
                await self._journal.probe()
            if loop.time() >= sweep_at_s:
                sweep_at_s = loop.time() + SWEEP_S
                with suppress(Busy):
                    await self._journal.sweep()
            if self._journal.openings != self._seen_opening:
                await self._take_up()
            await self._expire()
            self._start_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def _take_up(self) -> None:
        """Read the open jobs: the file was opened, at the start or after the disk had failed."""
        openings = self._journal.openings
        try:
            tickets = await self._journal.replay(tuple(self._running))
        except Busy:
            return  # the probe finds out when the disk is back
        self._seen_opening = openings
        self._waiting = {}
        for ticket in tickets:
            if ticket.seq not in self._running:
                self._queue(ticket)
        if tickets:
            logger.info("jobs taken up open=%d", len(tickets))
        for ticket in tickets:
            if ticket.crashes >= self._config.engine.max_crashes:
                self._waiting.pop(ticket.seq, None)
                await self._runner.settle(ticket, Failed.of(Poison(ticket.crashes)))

    async def _expire(self) -> None:
        """End the jobs that waited too long; they need no place to run for that."""
        now = self._journal.now()
        for ticket in [t for t in self._waiting.values() if now.seconds_after(t.deadline) >= 0]:
            if self._waiting.pop(ticket.seq, None) and not await self._runner.run(Run(ticket)):
                self._queue(ticket)

    def _start_due(self) -> None:
        if self._is_draining or asyncio.get_running_loop().time() < self._held_until_s:
            return
        while ticket := turns.choose(
            self._waiting.values(),
            [run.ticket for run in self._running.values()],
            place=self._places(),
            limits=self._limits,
        ):
            del self._waiting[ticket.seq]
            run = self._running[ticket.seq] = Run(ticket)
            task = watched(self._work(run), f"job {ticket.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, run: Run) -> None:
        try:
            is_over = await self._runner.run(run)
        finally:
            del self._running[run.ticket.seq]
        if is_over:
            self._failures = 0
        else:
            self._hold()
            self._queue(run.ticket)
        self._wake.set()

    def _hold(self) -> None:
        """Start nothing for a while: the engine or the disk is not ready, whichever job is next."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._held_until_s:
            return  # one crash fails several jobs, and is one failure
        self._failures += 1
        pause_s = wait_s(
            self._failures,
            first_s=turns.FIRST_WAIT_S,
            longest_s=turns.LONGEST_WAIT_S,
            chance=random.random(),  # noqa: S311  # spreads retries, guards nothing
        )
        self._held_until_s = loop.time() + pause_s
        loop.call_later(pause_s, self._wake.set)
