"""Runs one job: asks the engine, judges how that went, stores the result.

Knows no queue and no wire: deltas go to an `Outlet`, addresses are opaque.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never

from msgspec import structs

from edge_agent.dialects import envelope
from edge_agent.errors import Busy, Cancelled, Expired, Internal, Poison
from edge_agent.messages import Accepted, Answer, Delta, Failed, fold
from edge_agent.serving import turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from edge_agent.config import Config
    from edge_agent.messages import Event
    from edge_agent.serving.job import Job, Ticket
    from edge_agent.serving.journal import Journal
    from edge_agent.serving.router import Backend

logger = logging.getLogger(__name__)

# A result that the disk does not take is offered again so often; it is not sent before.
STORE_AGAIN_S = 1.0

T = TypeVar("T")


class Deltas(Protocol):
    """Takes the text of one attempt as it comes."""

    def push(self, text: str) -> None:
        """Take the next piece; may be joined with others before it is sent."""
        ...

    def close(self) -> int:
        """Send what is left; return how many messages the attempt took."""
        ...


class Outlet(Protocol):
    """Where answers leave the house."""

    @property
    def largest_body_bytes(self) -> int:
        """The largest message that can be sent now."""
        ...

    def deltas(self, job: Job) -> Deltas:
        """Return where the deltas of this attempt go."""
        ...

    def result_ready(self, seq: int) -> None:
        """Know that the outbox holds the result of job `seq`, which is to be sent (again)."""
        ...


@dataclass(slots=True)
class Run:
    """A job that is being worked on."""

    ticket: Ticket
    was_inside: bool = False
    """The engine or a peer had taken it, so deltas of it may be out."""
    is_cancelled: bool = False
    _scope: asyncio.Timeout | None = None

    def cancel(self) -> None:
        """End the answer, not the work: that it was cancelled is the result."""
        self.is_cancelled = True
        if self._scope:
            self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def cancellable(self) -> AsyncIterator[None]:
        """Let `cancel` end what is inside.

        Raises:
            TimeoutError: it did.
        """
        async with asyncio.timeout(0 if self.is_cancelled else None) as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None


class Runner:
    """Brings jobs from the queue to a result, or back into the queue."""

    def __init__(self, config: Config, journal: Journal, backend: Backend) -> None:
        self._config = config
        self._journal = journal
        self._backend = backend
        self.outlet: Outlet | None = None

    async def run(self, run: Run) -> bool:
        """Work on a job until it has a result; False if it is in the queue again instead.

        Cancelled, it returns the job to the queue without blame.
        """
        try:
            job = await self._journal.load(run.ticket.seq)
        except Busy:
            return False
        if job is None:
            return True
        try:
            return await self._conclude(run, job)
        except asyncio.CancelledError:
            # What it has sent so far is void, hence the next attempt; the crash count stays.
            with suppress(Busy):
                await self._journal.put_back(
                    job.seq, attempt=job.attempt + run.was_inside, crashes=job.crashes
                )
            raise

    async def settle(self, ticket: Ticket, failed: Failed) -> None:
        """Store the result of a job that will not run."""
        body = envelope.error(ticket.id, seq=0, attempt=ticket.attempt, failed=failed)
        await self._store(ticket.seq, body)

    async def _conclude(self, run: Run, job: Job) -> bool:
        deltas = self.outlet.deltas(job) if self.outlet and job.request.stream else None
        try:
            outcome = await self._answer(run, job, deltas)
        finally:
            num_deltas = deltas.close() if deltas else 0
        if isinstance(outcome, Failed):
            final = self._judge(run, job, outcome)
            if final is None:
                await self._put_back(run, job)
                return False
            outcome = final
        await self._store(job.seq, self._rendered(job, outcome, num_deltas))
        return True

    async def _answer(self, run: Run, job: Job, deltas: Deltas | None) -> Answer | Failed:
        """Return what the engine says, or why it may not or could not."""
        left_s = run.ticket.deadline.seconds_after(self._journal.now())
        if left_s <= 0:
            return Failed.of(Expired(job.request.deadline_s or 0.0))
        events: list[Event] = []
        request = structs.replace(job.request, deadline_s=left_s)
        try:
            async with run.cancellable(), aclosing(self._backend.stream(request)) as stream:
                async for event in stream:
                    events.append(event)
                    if isinstance(event, Accepted) and not run.was_inside:
                        await self._enter(run)
                    if deltas and isinstance(event, Delta):
                        deltas.push(event.text)
            return fold(events)
        except TimeoutError:
            return Failed.of(Cancelled())
        except Exception:
            logger.exception("bug while answering id=%s", job.request.id)
            return Failed.of(Internal())

    async def _enter(self, run: Run) -> None:
        """Note that the engine has it; the job is to blame if this process ends now."""
        # Not before: daemons that die while they load a model would poison jobs that never ran.
        run.was_inside = True
        with suppress(Busy):
            await self._journal.start(run.ticket)

    def _judge(self, run: Run, job: Job, failed: Failed) -> Failed | None:
        """Return the failure that is the job's result; None if it shall run again.

        The ticket then says with which attempt, and how many crashes to its name.
        """
        most = self._config.engine.max_crashes
        verdict = turns.after(failed, crashes=job.crashes, max_crashes=most)
        match verdict:
            case turns.Next.FINISH:
                return failed
            case turns.Next.POISON:
                return Failed.of(Poison(job.crashes + 1))
            case turns.Next.AGAIN | turns.Next.BLAME:
                crashes = job.crashes + (verdict is turns.Next.BLAME)
                logger.warning(
                    "job goes again id=%s code=%s crashes=%d", job.request.id, failed.code, crashes
                )
                run.ticket.attempt = job.attempt + run.was_inside
                run.ticket.crashes = crashes
                return None
            case _:
                assert_never(verdict)

    async def _put_back(self, run: Run, job: Job) -> None:
        ticket = run.ticket
        await _until_taken(
            lambda: self._journal.put_back(job.seq, attempt=ticket.attempt, crashes=ticket.crashes)
        )

    async def _store(self, seq: int, body: bytes) -> None:
        """Return once the result is on disk, then and only then tell the outlet."""
        if await _until_taken(lambda: self._journal.finish(seq, body)) and self.outlet:
            self.outlet.result_ready(seq)

    def _rendered(self, job: Job, outcome: Answer | Failed, num_deltas: int) -> bytes:
        name = job.request.id
        if isinstance(outcome, Failed):
            return envelope.error(name, seq=num_deltas, attempt=job.attempt, failed=outcome)
        model = job.request.model or self._config.default_model
        body = envelope.result(
            name, seq=num_deltas, attempt=job.attempt, model=model, answer=outcome
        )
        if self.outlet is None or len(body) <= self.outlet.largest_body_bytes:
            return body
        failed = envelope.result_too_large(len(body), self.outlet.largest_body_bytes)
        return envelope.error(name, seq=num_deltas, attempt=job.attempt, failed=failed)


async def _until_taken(write: Callable[[], Awaitable[T]]) -> T:
    """Return what `write` returns once the disk takes it."""
    while True:
        try:
            return await write()
        except Busy:
            await asyncio.sleep(STORE_AGAIN_S)
