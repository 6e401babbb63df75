"""Decides who answers a request and guards the rules that hold for every answer."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, assert_never

from edge_agent.errors import (
    DeadlineExceeded,
    Draining,
    EdgeError,
    Expired,
    Internal,
    Overloaded,
)
from edge_agent.messages import Done, Failed
from edge_agent.serving.admission import Load, Verdict, admit, next_pace_s, retry_after_s
from edge_agent.serving.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.messages import Event, Events, Request
    from edge_agent.serving.models import Models

logger = logging.getLogger(__name__)

# A service manager brings a stopped daemon back within seconds, if at all.
DRAINING_RETRY_S = 5.0


class Backend(Protocol):
    """Something that answers requests: the engine process, later a peer, and the router itself."""

    def stream(self, request: Request) -> Events:
        """Yield the events of `request`; the last one is `Done` or `Failed`, never an exception.

        Closing the generator cancels the request.
        """
        ...


class Router:
    """The door to the engine: model name, admission, deadline, and one log line per request."""

    def __init__(
        self,
        engine: Backend,
        *,
        models: Models,
        slots: int,
        queue_requests: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._models = models
        self._slots = slots
        self._queue_requests = queue_requests
        self._clock = clock
        self._pace_s: float | None = None
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

    async def stream(self, request: Request) -> Events:
        """Yield the events of `request`, with exactly one `Done` or `Failed`, at the end."""
        record = Record(request.id, began_s=self._clock())
        try:
            async with aclosing(self._guarded(request, record)) as events:
                async for event in events:
                    record.note(event, now_s=self._clock())
                    yield event
        finally:
            self._learn(record)
            logger.info(*record.line(now_s=self._clock()))

    async def _guarded(self, request: Request, record: Record) -> Events:
        """Yield the events of the engine; refusals and bugs become a last `Failed`."""
        try:
            request = self._models.dress(request)
            self._check_load()
        except EdgeError as exc:
            yield Failed.of(exc)
            return
        self.open_requests += 1
        self._emptied.clear()
        try:
            async with aclosing(self._engine.stream(request)) as events:
                is_over = False
                while not is_over:
                    event = await self._next(events, request, record)
                    is_over = isinstance(event, Done | Failed)
                    yield event
        finally:
            self.open_requests -= 1
            if not self.open_requests:
                self._emptied.set()

    def _check_load(self) -> None:
        """Let one more request pass.

        Raises:
            Overloaded: the queue is full.
            Draining: the daemon goes down.
        """
        load = Load(
            open_requests=self.open_requests,
            slots=self._slots,
            queue_requests=self._queue_requests,
            is_draining=self.is_draining,
        )
        match admit(load):
            case Verdict.ENTER:
                return
            case Verdict.FULL:
                reason = f"{load.open_requests} requests are being answered or wait, the limit"
                raise Overloaded(reason, retry_after_s(load, self._pace_s))
            case Verdict.DRAINING:
                reason = "the daemon is going down"
                raise Draining(reason, DRAINING_RETRY_S)
            case verdict:
                assert_never(verdict)

    async def _next(self, events: Events, request: Request, record: Record) -> Event:
        """Return the next event of the engine, or how its stream broke off."""
        deadline_s = request.deadline_s
        try:
            # Around each wait and not around the stream: a time limit must not strike a reader.
            async with asyncio.timeout(self._left_s(deadline_s, record)):
                return await anext(events)
        except TimeoutError:
            limit_s = deadline_s or 0.0
            error = DeadlineExceeded(limit_s) if record.is_accepted else Expired(limit_s)
            return Failed.of(error)
        except StopAsyncIteration:
            logger.error("stream of the engine broke off id=%s", request.id)  # noqa: TRY400  # its trace says nothing
        except Exception:
            logger.exception("bug while answering id=%s", request.id)
        return Failed.of(Internal())

    def _left_s(self, deadline_s: float | None, record: Record) -> float | None:
        """Return the seconds until the deadline, never less than 0; None without one."""
        if deadline_s is None:
            return None
        return max(0.0, record.began_s + deadline_s - self._clock())

    def _learn(self, record: Record) -> None:
        if record.done:
            timings = record.done.timings
            self._pace_s = next_pace_s(self._pace_s, timings.prefill_s + timings.decode_s)
