"""The one lifetime of the daemon's parts.

Start: state directory, journal, HTTP, then the engine and MQTT behind them. Stop: refuse, drain,
then the same parts backwards. Whatever is slow to stop is named in the log and left behind.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from edge_agent.daemon.herald import Herald
from edge_agent.daemon.stopping import NUM_STAGES, STAGE_LIMIT_S, stage, stop_signals
from edge_agent.ops.health import Served, State
from edge_agent.ops.heap import keep_large_blocks_apart
from edge_agent.ops.instance import only_instance
from edge_agent.ops.systemd import notify, watchdog_interval_s

if TYPE_CHECKING:
    from edge_agent.daemon.engine_source import EngineSource, FindEngine
    from edge_agent.daemon.herald import Observer
    from edge_agent.daemon.parts import Parts

logger = logging.getLogger(__name__)


class Daemon:
    """Starts the parts, runs them until told to stop, and stops them."""

    def __init__(self, parts: Parts, find_engine: FindEngine | None) -> None:
        """`find_engine` returns once the model is here; None: no model is served."""
        self._parts = parts
        self._find_engine = find_engine

    async def run(self, observer: Observer) -> None:
        """Serve until told to stop.

        Raises:
            ConfigError: it cannot start as configured.
        """
        parts = self._parts
        keep_large_blocks_apart()
        with only_instance(parts.home):
            stopping = stop_signals()
            parts.standing.listen(Herald(observer).change)
            parts.steward.begin()
            async with AsyncExitStack() as house:
                await self._open(house)
                observer.listening(parts.http.addresses)
                notify("READY=1", f"STATUS={parts.standing.state}: {parts.standing.detail}")
                async with asyncio.TaskGroup() as tasks:
                    engine = tasks.create_task(self._run_engine(), name="engine")
                    others = [
                        tasks.create_task(work, name=name)
                        for name, work in (
                            ("lag", parts.lag.run()),
                            ("watchdog", self._feed_watchdog()),
                            ("memory", parts.watch.run()),
                            ("peers", parts.peers.run()),
                        )
                    ]
                    await stopping.wait()
                    await self._drain()
                    engine.cancel()
                    await stage("engine", lambda: asyncio.wait([engine]), STAGE_LIMIT_S)
                    for task in others:
                        task.cancel()
        logger.info("stopped uptime_s=%.0f", parts.uptime_s)

    async def _open(self, house: AsyncExitStack) -> None:
        """Start what answers clients; `house` closes it again, the last first."""
        parts = self._parts
        house.push_async_callback(stage, "peers", parts.peers.close, STAGE_LIMIT_S)
        for name, start, close in (
            ("journal", parts.journal.open, parts.journal.close),
            ("http", parts.http.start, parts.http.close),
            ("jobs", parts.jobs.start, parts.jobs.close),
            ("mqtt", parts.mqtt.start, parts.mqtt.close),
        ):
            await start()
            house.push_async_callback(stage, name, close, STAGE_LIMIT_S)

    async def _run_engine(self) -> None:
        """Have the model, then keep its process alive; without a model, say so."""
        if self._find_engine is None:
            self._relay()
            return
        source = await self._find_engine()
        self._know(source)
        await self._parts.supervisor.run(source.command)

    def _relay(self) -> None:
        """Tell that nothing is answered here."""
        parts = self._parts
        parts.served = tuple(
            Served(name=name, created=0, context_tokens=None) for name in parts.models.names
        )
        names = ", ".join(peer.name for peer in parts.config.peers)
        parts.standing.change(State.RELAY, f"no model is configured; peers answer: {names}")

    def _know(self, source: EngineSource) -> None:
        """Tell the parts what the engine serves and needs."""
        parts = self._parts
        parts.served = tuple(
            msgspec.structs.replace(source.served, name=name) for name in parts.models.names
        )
        parts.kv = source.kv
        parts.needs.engine_bytes = source.engine_bytes
        if source.budget is not None:
            slots = parts.config.engine.slots
            parts.needs.shared_bytes = (
                0,
                *(source.budget.shared_bytes(slots=running) for running in range(1, slots + 1)),
            )
        parts.steward.context_tokens = source.served.context_tokens
        parts.sizes.know(
            source.budget,
            context_tokens=source.served.context_tokens,
            most_bytes=parts.steward.most_bytes,
            longest_token_bytes=source.longest_token_bytes,
        )

    async def _feed_watchdog(self) -> None:
        """Tell systemd that we live, as long as the loop turns and the engine beats or loads."""
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            if self._parts.supervisor.is_alive:
                notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    async def _drain(self) -> None:
        """Take nothing new and give what runs `drain_s` to finish."""
        parts = self._parts
        limit_s = parts.config.daemon.drain_s
        logger.info("stopping open_requests=%d drain_s=%.0f", parts.router.open_requests, limit_s)
        parts.router.drain()
        parts.mqtt.drain()
        extend_us = round((limit_s + NUM_STAGES * STAGE_LIMIT_S) * 1e6)
        notify("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={extend_us}")

        async def emptied() -> None:
            await asyncio.gather(parts.router.wait_empty(), parts.jobs.drain())

        await stage("drain", emptied, limit_s)
