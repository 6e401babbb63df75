"""Keeps one engine process alive and turns it into a `Backend`.

Owns restarts, their back-off and the blame for crashes; knows nothing of models or wires.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from edge_agent.errors import Draining, EdgeError, EngineCrashed, Loading, Poison
from edge_agent.messages import Done, Failed
from edge_agent.ops.health import State
from edge_agent.worker.backoff import wait_s
from edge_agent.worker.blame import Blame, fingerprint
from edge_agent.worker.child import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.config import Engine
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a process ended, and what it said if its model could not be loaded."""

    how: str
    load_failure: str | None = None


class Supervisor:
    """Runs engine processes, one at a time, and streams requests through them."""

    def __init__(self, limits: Engine, standing: Standing) -> None:
        self._limits = limits
        self._standing = standing
        self._blame = Blame()
        self._child: Child | None = None
        self._is_ready = asyncio.Event()
        self._waiting_for_load = 0
        self.restarts = 0
        self.ready: Ready | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the engine beats, or loads, or is about to be started again."""
        return self._child is None or not self._child.is_overdue

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(stream.is_started for stream in self._streams)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot or for the engine itself."""
        return sum(not stream.is_started for stream in self._streams) + self._waiting_for_load

    @property
    def _streams(self) -> tuple[Stream, ...]:
        return self._child.streams if self._child else ()

    async def run(self, command: Sequence[str]) -> NoReturn:
        """Keep a process of `command` running until cancelled; none is left behind then."""
        failures = 0
        while True:
            began_s = time.monotonic()
            end = await self._live_once(command)
            if end.load_failure is not None:
                logger.error("model cannot be loaded error=%s", end.load_failure)
                self._standing.change(State.FAILED, end.load_failure)
                await asyncio.sleep(FAILED_WAIT_S)
                continue
            failures = 1 if time.monotonic() - began_s >= HEALTHY_S else failures + 1
            self.restarts += 1
            pause_s = wait_s(
                failures,
                first_s=self._limits.restart_wait_s,
                longest_s=self._limits.restart_wait_limit_s,
                chance=random.random(),  # noqa: S311  # spreads restarts, guards nothing
            )
            logger.error("engine process ended how=%s restart_in_s=%.1f", end.how, pause_s)
            self._standing.change(State.RESTARTING, f"the engine process ended ({end.how})")
            await asyncio.sleep(pause_s)

    async def _live_once(self, command: Sequence[str]) -> _End:
        """Run one process to its end; every request it leaves undone has failed by then."""
        self._standing.change(State.LOADING, "the engine process is starting")
        try:
            child = self._child = await Child.start(command)
        except OSError as exc:  # no memory or no process slot for it now
            return _End(how=f"not started: {exc}")
        try:
            how = await child.live(
                stall_limit_s=self._limits.stall_limit_s, on_ready=self._on_ready
            )
        except asyncio.CancelledError:
            child.fail(Draining("the daemon is going down", DRAINING_RETRY_S))
            await child.stop()
            raise
        finally:
            self._is_ready.clear()
            self._child = None
        self._blame.crashed(fingerprint(s.request) for s in child.streams if s.is_started)
        child.fail(EngineCrashed(how))
        return _End(how=how, load_failure=child.load_failure)

    def _on_ready(self, ready: Ready) -> None:
        logger.info(
            "engine ready model=%s context=%d slots=%d threads=%d load_s=%.2f",
            ready.model,
            ready.context,
            ready.slots,
            ready.threads,
            ready.load_s,
        )
        self.ready = ready
        self._is_ready.set()
        self._standing.change(State.READY, f"serving {ready.model}")

    async def stream(self, request: Request) -> Events:
        """Yield the events of `request`; a loading engine is waited for up to `load_wait_s`."""
        mark = fingerprint(request)
        try:
            self._refuse_poison(mark)
            child = await self._serving()
        except EdgeError as exc:
            yield Failed.of(exc)
            return
        stream = child.open(request)
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

    async def _serving(self) -> Child:
        """Return the child once it is ready.

        Raises:
            Loading: there is none within `load_wait_s`, or none is to be expected.
        """
        if self._standing.state is State.FAILED:
            raise Loading(self._standing.detail, FAILED_WAIT_S)
        self._waiting_for_load += 1
        try:
            async with asyncio.timeout(self._limits.load_wait_s):
                while not (child := self._child) or not child.ready:
                    await self._is_ready.wait()
        except TimeoutError:
            raise Loading(self._standing.detail, self._limits.load_wait_s) from None
        else:
            return child
        finally:
            self._waiting_for_load -= 1
