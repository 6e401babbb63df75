"""Has an engine process while one is wanted and allowed: starts, restarts and ends it.

Owns the back-off and what is said of the engine's standing; knows nothing of requests but that some
are open, and nothing of models, wires or how memory is measured.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from edge_agent.errors import Draining, EngineCrashed, Pressure
from edge_agent.ops.health import State
from edge_agent.worker.backoff import wait_s
from edge_agent.worker.child import Child
from edge_agent.worker.ending import Cause, End, judged
from edge_agent.worker.link import Drafts
from edge_agent.worker.load_clock import LoadClock
from edge_agent.worker.news import News
from edge_agent.worker.stay import Stay
from edge_agent.worker.tenure import Move

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.config import Engine
    from edge_agent.errors import EdgeError
    from edge_agent.messages import Request
    from edge_agent.worker.child import Stream
    from edge_agent.worker.ending import Exit
    from edge_agent.worker.link import Ready
    from edge_agent.worker.standing import Standing

logger = logging.getLogger(__name__)

# An engine that served this long was not broken from birth: its next crash starts the back-off
# anew.
HEALTHY_S = 60.0
# A package that does not load will not load in a second either; an operator may have mended it.
FAILED_WAIT_S = 60.0
# A service manager brings a stopped daemon back within seconds, if at all.
DRAINING_RETRY_S = 5.0
# Who is told to come back sooner finds the same state.
LEAST_RETRY_S = 1.0
# Memory that was just too short for an engine is not free in a moment.
NO_MEMORY_RETRY_S = 30.0

_STARTING = "the engine process is starting"


class Life:
    """The engine's process, one at a time."""

    def __init__(  # noqa: PLR0913  # its collaborators, each named
        self,
        limits: Engine,
        standing: Standing,
        *,
        keep_alive_s: float | None,
        without_engine: State,
        count_oom_kills: Callable[[], int | None],
        on_ready: Callable[[Child], None],
        on_crash: Callable[[Sequence[Stream]], None],
    ) -> None:
        """Begin without a process.

        Args:
            limits: of starts and of stalls.
            standing: where it is said how the engine is.
            keep_alive_s: how long it stays when idle; None is for ever.
            without_engine: the state where this processor cannot run it.
            count_oom_kills: how many processes were ever killed for want of memory, None if nobody
                counts.
            on_ready: told of a process that has loaded, before any request.
            on_crash: told of the requests that ran when a process crashed.
        """
        self._limits = limits
        self._standing = standing
        self._without_engine = without_engine
        self._count_oom_kills = count_oom_kills
        self._on_ready = on_ready
        self._on_crash = on_crash
        self.stay = Stay(keep_alive_s, on_due=self.act)
        self.clock = LoadClock()
        self.news = News()
        """Rings whenever something is different."""
        self.child: Child | None = None
        self.over = asyncio.Event()  # of the process that there is; set while there is none
        self.over.set()
        self.num_waiting = 0
        """Those who wait for the engine: it is not idle then."""
        self.on_oom: Callable[[str], None] | None = None
        self.restarts = 0
        self._past_drafts = Drafts()  # of processes that are gone
        self._is_running = False
        self._orders = News()
        standing.listen(lambda _state, _detail: self.news.tell())

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The requests that the process has, oldest first."""
        return self.child.streams if self.child else ()

    @property
    def drafts(self) -> Drafts:
        """Of all processes so far."""
        return self._past_drafts + self.child.drafts if self.child else self._past_drafts

    @property
    def is_serving(self) -> bool:
        """Whether the process takes requests."""
        child = self.child
        if child is None or child.ready is None or child.is_dismissed:
            return False
        return not self.stay.is_leaving

    async def run(self, command: Sequence[str]) -> NoReturn:
        """Have a process of `command` while one is wanted, until cancelled; none is left then."""
        failures = 0
        self._is_running = True
        try:
            while True:
                await self._wanted()
                began_s = time.monotonic()
                end = await self._live_once(command)
                match end.cause:
                    case Cause.UNWANTED:
                        failures = 0
                    case Cause.CANNOT_LOAD:
                        logger.error("model cannot be loaded error=%s", end.how)
                        await self._pause(State.FAILED, end.how, FAILED_WAIT_S)
                    case Cause.WRONG_PROCESSOR:
                        await self._rest_for_ever(end.how)
                    case Cause.CRASH | Cause.NO_MEMORY:
                        failures = 1 if time.monotonic() - began_s >= HEALTHY_S else failures + 1
                        await self._after_crash(end.how, failures)
        finally:
            self._is_running = False
            self.stay.close()

    async def _wanted(self) -> None:
        """Return when a process should be started."""
        while self._move() is not Move.START:
            self._rest()
            await self.news.wait()

    async def _after_crash(self, how: str, failures: int) -> None:
        logger.error("engine process ended how=%s failures_in_a_row=%d", how, failures)
        self.restarts += 1
        pause_s = wait_s(
            failures,
            first_s=self._limits.restart_wait_s,
            longest_s=self._limits.restart_wait_limit_s,
            chance=random.random(),  # noqa: S311  # spreads restarts, guards nothing
        )
        await self._pause(State.RESTARTING, f"the engine process ended ({how})", pause_s)

    async def _rest_for_ever(self, why: str) -> NoReturn:
        """Try no more: the processor stays what it is."""
        logger.error("engine cannot run here why=%s", why)
        self._is_running = False  # so that no unload says that a request would load the model
        self._standing.change(self._without_engine, why)
        while True:
            await self.news.wait()

    async def _pause(self, state: State, detail: str, pause_s: float) -> None:
        """Wait before the next start; an unload, a hold or a release ends that."""
        if self._move() is not Move.START:
            return
        self._standing.change(state, detail)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._orders.wait()

    async def _live_once(self, command: Sequence[str]) -> End:
        """Run one process to its end; every request it leaves undone has failed by then."""
        over = self.over = asyncio.Event()
        self.stay.begin()
        self.clock.begin(time.monotonic())
        self._standing.change(State.LOADING, _STARTING)
        oom_kills = self._count_oom_kills()
        try:
            try:
                child = await Child.start(command, on_over=self._on_over)
            except OSError as exc:  # no memory or no process slot for it now
                return End(Cause.CRASH, f"not started: {exc}")
            gone = await self._live(child)
        finally:
            self._past_drafts = self.drafts
            self.child = None
            self.clock.stop()
            over.set()
        end = judged(gone, oom_kills_before=oom_kills, oom_kills_after=self._count_oom_kills())
        self._conclude(child, end)
        return end

    async def _live(self, child: Child) -> Exit:
        self.child = child
        self.act()  # it may have lost its leave while it was started
        try:
            return await child.live(stall_limit_s=self._limits.stall_limit_s, on_ready=self._ready)
        except asyncio.CancelledError:
            child.fail(Draining("the daemon is going down", DRAINING_RETRY_S))
            await child.stop()
            raise

    def _conclude(self, child: Child, end: End) -> None:
        """Say how `child` ended, and fail all it had."""
        match end.cause:
            case Cause.UNWANTED:
                logger.info("engine process unloaded pid=%d why=%s", child.pid, self.stay.why)
            case Cause.NO_MEMORY:
                logger.error("engine process killed for want of memory how=%s", end.how)
                if self.on_oom:
                    self.on_oom(end.how)
            case Cause.CRASH | Cause.CANNOT_LOAD | Cause.WRONG_PROCESSOR:
                self._on_crash([stream for stream in child.streams if stream.is_started])
        child.fail(self._failure(end))

    def _failure(self, end: End) -> EdgeError:
        """Return what those are told whose process ended under them."""
        if end.cause is Cause.NO_MEMORY:
            reason = f"the engine was killed for want of memory ({end.how})"
            return Pressure(reason, self.stay.retry_after_s or NO_MEMORY_RETRY_S)
        return EngineCrashed(end.how)

    def _ready(self, ready: Ready) -> None:
        logger.info(
            "engine ready model=%s context=%d slots=%d threads=%d load_s=%.2f",
            ready.model,
            ready.context,
            ready.slots,
            ready.threads,
            ready.load_s,
        )
        if self.child:
            self._on_ready(self.child)
        self.clock.ready(time.monotonic())
        self._standing.change(State.READY, f"serving {ready.model}")
        self.act()

    def _on_over(self, request: Request) -> None:
        self.stay.answered(request)
        self.act()

    def act(self) -> None:
        """Do what has become due."""
        is_idle = self.is_serving and not self.streams and not self.num_waiting
        self.stay.look(is_idle=is_idle)
        child = self.child
        match self._move():
            case Move.END if child and not child.is_dismissed:
                self._end(child)
            case Move.RETIRE:
                self._standing.change(State.UNLOADING, "the answers that were begun come first")
            case Move.SERVE if child and not child.ready:
                self._standing.change(State.LOADING, _STARTING)
            case Move.REST:
                self._rest()
            case Move.START | Move.SERVE | Move.END:
                pass
        self.news.tell()

    def obey(self) -> None:
        """Do what has become due by an order, which no pause outlasts."""
        self.act()
        self._orders.tell()

    def _move(self) -> Move:
        return self.stay.move(has_process=self.child is not None, open_requests=len(self.streams))

    def _end(self, child: Child) -> None:
        """End the process that nobody wants, or that must not be; nothing in it is worth saving."""
        state = State.HELD if self.stay.is_held else State.UNLOADING
        self._standing.change(state, self.stay.why)
        child.dismiss()
        child.fail(Pressure(self.stay.why, self.stay.retry_after_s or LEAST_RETRY_S))

    def _rest(self) -> None:
        """Say why there is no process."""
        if self._is_running:  # before, somebody else says why there is no model yet
            state = State.HELD if self.stay.is_held else State.UNLOADED
            self._standing.change(state, self.stay.why)
