"""Has an engine process while one is wanted and allowed, and turns it into a `Backend`.

Owns loading and unloading, restarts, their back-off and the blame for crashes; knows nothing of
models, wires or how memory is measured.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from edge_agent.errors import Draining, EdgeError, EngineCrashed, Loading, Poison, Pressure
from edge_agent.messages import Done, Failed
from edge_agent.ops.health import State
from edge_agent.worker.backoff import wait_s
from edge_agent.worker.blame import Blame, fingerprint
from edge_agent.worker.child import Child
from edge_agent.worker.giving_way import giving_way
from edge_agent.worker.link import AS_CONFIGURED_BYTES
from edge_agent.worker.load_clock import LoadClock
from edge_agent.worker.news import News
from edge_agent.worker.stay import Stay
from edge_agent.worker.tenure import Move

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_agent.config import Engine, Memory
    from edge_agent.messages import Events, Request
    from edge_agent.worker.child import Stream
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

_STARTING = "the engine process is starting"


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a process ended, and what it said if its model could not be loaded."""

    how: str
    load_failure: str | None = None
    was_sent_away: bool = False


class Supervisor:
    """Runs engine processes, one at a time, and streams requests through them."""

    def __init__(
        self,
        limits: Engine,
        memory: Memory,
        standing: Standing,
        *,
        count_oom_kills: Callable[[], int | None],
    ) -> None:
        """`count_oom_kills` tells how many processes were ever killed for want of memory.

        None from it means that nobody can tell.
        """
        self._limits = limits
        self._standing = standing
        self._count_oom_kills = count_oom_kills
        keep_alive_s = None if memory.keep_alive == "forever" else memory.keep_alive
        self._stay = Stay(keep_alive_s, on_due=self._act)
        self._blame = Blame()
        self._child: Child | None = None
        self._over = asyncio.Event()  # of the process that there is; set while there is none
        self._over.set()
        self._is_running = False
        self._news = News()
        self._orders = News()
        self._waiting_for_load = 0
        self._load_clock = LoadClock()
        self.on_oom: Callable[[str], None] | None = None
        """Told how a process ended that was killed for want of memory, before the next starts."""
        self._most_kept_bytes = AS_CONFIGURED_BYTES
        self.restarts = 0
        self.ready: Ready | None = None
        standing.listen(lambda _state, _detail: self._news.tell())

    @property
    def is_alive(self) -> bool:
        """Whether the engine beats, or loads, or may be started again at any time."""
        return self._child is None or not self._child.is_overdue

    @property
    def child_pid(self) -> int | None:
        """The process id of the engine, if there is one."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(stream.is_started for stream in self._streams)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot or for the engine itself."""
        return sum(not stream.is_started for stream in self._streams) + self._waiting_for_load

    @property
    def load_left_s(self) -> float | None:
        """How long a load takes, less what of one has passed; None if none was measured."""
        return self._load_clock.left_s(time.monotonic())

    @property
    def _streams(self) -> tuple[Stream, ...]:
        return self._child.streams if self._child else ()

    async def load(self) -> None:
        """Return once the model is loaded and requests are taken; its idle time begins anew.

        Raises:
            Loading: it is not within `load_wait_s`, or cannot be.
            Pressure: memory is critical.
        """
        with self._in_line():
            await self._serving(self._limits.load_wait_s)

    async def unload(self, reason: str) -> None:
        """End the engine process and return when it is gone; `reason` is shown until the next load.

        Answers that were begun are given first, and new requests wait for the next process. Who
        stops waiting for this does not take it back.
        """
        over = self._over
        self._stay.send_away(reason)
        self._obey()
        await over.wait()

    def hold(self, reason: str, *, retry_after_s: float) -> None:
        """End the engine process at once and start none until `release`; `reason` is shown.

        What it worked on fails with `Pressure`, and so does what comes meanwhile; both are told to
        come back after `retry_after_s`.
        """
        self._stay.hold(reason, retry_after_s)
        self._obey()

    def release(self) -> None:
        """Let there be a process again; one is started if it was wanted before."""
        self._stay.release()
        self._obey()

    @property
    def kept_bytes(self) -> int:
        """Memory that the engine keeps of ended requests, and gives back when it has to."""
        return self._child.kept_bytes if self._child else 0

    def shrink_prefixes(self, to_bytes: int) -> None:
        """Have this engine and the next ones keep at most so much of ended requests.

        `AS_CONFIGURED_BYTES` lifts that.
        """
        self._most_kept_bytes = to_bytes
        if self._child and self._child.ready:
            self._child.shrink_prefixes(to_bytes)

    def preempt(self, reason: str, *, retry_after_s: float, most: int = 1) -> int:
        """Fail up to `most` running requests with `Pressure`; return how many there were."""
        child = self._child
        if child is None:
            return 0
        running = [stream for stream in child.streams if stream.is_started]
        places = giving_way([stream.request for stream in running], most=most)
        for place in places:
            child.give_up(running[place], Pressure(reason, retry_after_s))
        return len(places)

    async def run(self, command: Sequence[str]) -> NoReturn:
        """Have a process of `command` while one is wanted, until cancelled; none is left then."""
        failures = 0
        self._is_running = True
        try:
            while True:
                await self._wanted()
                began_s = time.monotonic()
                end = await self._live_once(command)
                if end.was_sent_away:
                    failures = 0
                elif end.load_failure is not None:
                    logger.error("model cannot be loaded error=%s", end.load_failure)
                    await self._pause(State.FAILED, end.load_failure, FAILED_WAIT_S)
                else:
                    failures = 1 if time.monotonic() - began_s >= HEALTHY_S else failures + 1
                    await self._after_crash(end.how, failures)
        finally:
            self._is_running = False
            self._stay.close()

    async def _wanted(self) -> None:
        """Return when a process should be started."""
        while self._move() is not Move.START:
            self._rest()
            await self._news.wait()

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

    async def _pause(self, state: State, detail: str, pause_s: float) -> None:
        """Wait before the next start; an unload, a hold or a release ends that."""
        if self._move() is not Move.START:
            return
        self._standing.change(state, detail)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._orders.wait()

    async def _live_once(self, command: Sequence[str]) -> _End:
        """Run one process to its end; every request it leaves undone has failed by then."""
        over = self._over = asyncio.Event()
        self._stay.begin()
        self._load_clock.begin(time.monotonic())
        self._standing.change(State.LOADING, _STARTING)
        oom_kills = self._count_oom_kills()
        try:
            try:
                child = await Child.start(command, on_over=self._on_over)
            except OSError as exc:  # no memory or no process slot for it now
                return _End(how=f"not started: {exc}")
            how = await self._live(child)
        finally:
            self._child = None
            self._load_clock.stop()
            over.set()
        return self._concluded(child, how, oom_kills)

    async def _live(self, child: Child) -> str:
        self._child = child
        self._act()  # it may have lost its leave while it was started
        try:
            return await child.live(
                stall_limit_s=self._limits.stall_limit_s, on_ready=self._on_ready
            )
        except asyncio.CancelledError:
            child.fail(Draining("the daemon is going down", DRAINING_RETRY_S))
            await child.stop()
            raise

    def _concluded(self, child: Child, how: str, oom_kills: int | None) -> _End:
        """Judge the end of `child`, blame those it ran and fail all it had."""
        if child.is_dismissed:
            logger.info("engine process unloaded pid=%d why=%s", child.pid, self._stay.why)
            return _End(how=how, was_sent_away=True)
        if child.was_killed and self._is_oom_kill(oom_kills):
            how = f"{how}, out of memory"
            self._tell_oom(how)
        self._blame.crashed(fingerprint(s.request) for s in child.streams if s.is_started)
        child.fail(EngineCrashed(how))
        return _End(how=how, load_failure=child.load_failure)

    def _is_oom_kill(self, before: int | None) -> bool:
        """Tell whether the kernel did it; where nobody counts its kills, who else would."""
        after = self._count_oom_kills()
        return before is None or after is None or after > before

    def _tell_oom(self, how: str) -> None:
        logger.error("engine process killed for want of memory how=%s", how)
        if self.on_oom:
            self.on_oom(how)

    def _on_ready(self, ready: Ready) -> None:
        logger.info(
            "engine ready model=%s context=%d slots=%d threads=%d load_s=%.2f",
            ready.model,
            ready.context,
            ready.slots,
            ready.threads,
            ready.load_s,
        )
        if self._child and self._most_kept_bytes < AS_CONFIGURED_BYTES:
            self._child.shrink_prefixes(self._most_kept_bytes)
        self._load_clock.ready(time.monotonic())
        self.ready = ready
        self._standing.change(State.READY, f"serving {ready.model}")
        self._act()

    def _on_over(self, request: Request) -> None:
        self._stay.answered(request)
        self._act()

    def _act(self) -> None:
        """Do what has become due."""
        is_idle = self._is_serving and not self._streams and not self._waiting_for_load
        self._stay.look(is_idle=is_idle)
        child = self._child
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
        self._news.tell()

    def _obey(self) -> None:
        """Do what has become due by an order, which no pause outlasts."""
        self._act()
        self._orders.tell()

    def _move(self) -> Move:
        return self._stay.move(
            has_process=self._child is not None, open_requests=len(self._streams)
        )

    def _end(self, child: Child) -> None:
        """End the process that nobody wants, or that must not be; nothing in it is worth saving."""
        state = State.HELD if self._stay.is_held else State.UNLOADING
        self._standing.change(state, self._stay.why)
        child.dismiss()
        child.fail(Pressure(self._stay.why, self._stay.retry_after_s or LEAST_RETRY_S))

    def _rest(self) -> None:
        """Say why there is no process."""
        if self._is_running:  # before, somebody else says why there is no model yet
            state = State.HELD if self._stay.is_held else State.UNLOADED
            self._standing.change(state, self._stay.why)

    async def stream(self, request: Request) -> Events:
        """Yield the events of `request`; a loading engine is waited for.

        That is until its deadline, or up to `load_wait_s` if it has none.
        """
        mark = fingerprint(request)
        patience_s = self._limits.load_wait_s if request.deadline_s is None else request.deadline_s
        try:
            self._refuse_poison(mark)
            with self._in_line():
                child = await self._serving(patience_s)
                stream = child.open(request)
        except EdgeError as exc:
            yield Failed.of(exc)
            return
        try:
            is_over = False
            while not is_over:
                event = await stream.events.get()
                is_over = isinstance(event, Done | Failed)
                if isinstance(event, Done):
                    self._blame.answered(mark)
                yield event
        finally:
            child.close(stream)

    def _refuse_poison(self, mark: bytes) -> None:
        crashes = self._blame.crashes(mark)
        if crashes >= self._limits.max_crashes:
            raise Poison(crashes)

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        """Count somebody who waits for the engine: it is not idle then."""
        self._waiting_for_load += 1
        try:
            yield
        finally:
            self._waiting_for_load -= 1
            self._act()

    @property
    def _is_serving(self) -> bool:
        """Whether the process takes requests."""
        child = self._child
        if child is None or child.ready is None or child.is_dismissed:
            return False
        return not self._stay.is_leaving

    async def _serving(self, limit_s: float) -> Child:
        """Have the engine loaded if it is not; return it once it takes requests.

        Raises:
            Loading: it does not within `limit_s`, or is not expected to.
            Pressure: memory is critical.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not (child := self._child) or not self._is_serving:
                    self._refuse_when_vain()
                    if not self._stay.is_wanted:
                        self._stay.call()
                        self._act()
                    await self._news.wait()
        except TimeoutError:
            raise Loading(self._standing.detail, self._retry_s()) from None
        return child

    def _refuse_when_vain(self) -> None:
        if self._stay.is_held:
            raise Pressure(self._stay.why, self._stay.retry_after_s or LEAST_RETRY_S)
        if self._standing.state in {State.FAILED, State.RELAY}:
            raise Loading(self._standing.detail, FAILED_WAIT_S)

    def _retry_s(self) -> float:
        """Return when a load that just went on for too long should be over."""
        left_s = self.load_left_s
        return self._limits.load_wait_s if left_s is None else max(LEAST_RETRY_S, left_s)
