"""The composition root: builds the parts of the daemon, starts and stops them in named stages.

Start: state directory, journal, HTTP, then the engine and MQTT behind them. Stop: refuse, drain,
then the same parts backwards. Whatever is slow to stop is named in the log and left behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from edge_agent import __version__
from edge_agent.guard.budget import Budget
from edge_agent.guard.memory import within
from edge_agent.guard.sample import count_oom_kills, sample
from edge_agent.guard.watch import Watch
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import fault
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.health import Health, Served, State
from edge_agent.ops.instance import only_instance
from edge_agent.ops.lag import Lag
from edge_agent.ops.metrics import Metrics
from edge_agent.ops.systemd import notify, watchdog_interval_s
from edge_agent.serving.admission import Rules
from edge_agent.serving.jobs import Jobs
from edge_agent.serving.journal import Journal
from edge_agent.serving.ledger import Ledger
from edge_agent.serving.models import Models
from edge_agent.serving.others import Others
from edge_agent.serving.peers.peers import Peers
from edge_agent.serving.router import Router
from edge_agent.serving.sizing import Sizes, engine_bytes
from edge_agent.serving.steward import EngineNeeds, Steward
from edge_agent.serving.wellness import answers, obstacles, peers_health
from edge_agent.transports.http.server import HttpServer
from edge_agent.transports.mqtt.client import MqttClient
from edge_agent.worker.command import engine_command
from edge_agent.worker.preparation import Preparation, prepare_command, pull_command
from edge_agent.worker.standing import Standing
from edge_agent.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from edge_agent.config import Config
    from edge_agent.guard.memory import Memory
    from edge_agent.serving import sizing

logger = logging.getLogger(__name__)

# Each stage after the drain; all together stay well below what a service manager waits.
STAGE_LIMIT_S = 5.0
NUM_STAGES = 6
# What the daemon is ready in: the model is loaded, or will be on demand, or others answer.
_ANSWERING = {State.READY, State.UNLOADED, State.RELAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSource:
    """The model that is served, once it is here."""

    command: list[str]
    """Starts the engine process."""
    served: Served
    engine_bytes: int = 0
    """What the engine takes before any request, mapped weights apart."""
    budget: sizing.Budget | None = None
    """What a request takes."""


class Observer(Protocol):
    """Whoever started the daemon and wants to know when it can be used."""

    def listening(self, addresses: Sequence[tuple[str, int]]) -> None:
        """HTTP answers at `addresses`, the model perhaps not yet."""

    def ready(self) -> None:
        """The model answers, or peers do in its place."""


async def run(config: Config, home: Path, observer: Observer) -> None:
    """Run the real daemon until SIGTERM or SIGINT, with its state in `home`.

    Raises:
        ConfigError: it cannot start as configured.
    """
    standing = Standing(State.LOADING, "starting")
    if config.model is None:
        models = Models.of_peers([peer.model for peer in config.peers])
        await Daemon(config, home, standing, models, None).run(observer)
        return
    catalog = catalog_of(home)
    for problem in catalog.problems:
        logger.warning("card not read problem=%s", problem)
    base = catalog.base(config.model)
    models = Models(config.model, base, catalog.variants_of(base))
    preparation = Preparation(
        ModelStore(home).package,
        base,
        standing,
        pull=pull_command(base),
        prepare=prepare_command if config.engine.prepare else None,
    )

    async def find_engine() -> EngineSource:
        package = await preparation.package()
        manifest = read_manifest(package)
        context = min(config.engine.context, manifest.context)
        return EngineSource(
            command=engine_command(config, package),
            served=Served(name=manifest.name, created=manifest.created, context_tokens=context),
            engine_bytes=engine_bytes(
                manifest, config.engine, is_prepared=fault(package, manifest) is None
            ),
            budget=Budget(
                shape=manifest.shape,
                kv_dtype=config.engine.kv_dtype,
                chunk_tokens=config.engine.chunk_tokens,
                context_tokens=context,
            ),
        )

    await Daemon(config, home, standing, models, find_engine).run(observer)


class Daemon:
    """The running parts and their one lifetime."""

    def __init__(
        self,
        config: Config,
        home: Path,
        standing: Standing,
        models: Models,
        find_engine: Callable[[], Awaitable[EngineSource]] | None,
    ) -> None:
        """`find_engine` returns once the model is here; None: no model is served.

        Raises:
            ConfigError: a file that the configuration names cannot be used.
        """
        self._config = config
        self._home = home
        self._standing = standing
        self._models = models
        self._find_engine = find_engine
        self._began_s = time.monotonic()
        self._served: tuple[Served, ...] = ()
        self._needs = EngineNeeds()
        self._rules = Rules.of(config)
        self._ledger = Ledger()
        self._lag = Lag()
        self._sizes = Sizes(self._longest_token_bytes)
        self._peers = Peers(config.peers, config.routing)
        self._supervisor = Supervisor(
            config.engine, config.memory, standing, count_oom_kills=count_oom_kills
        )
        self._watch = Watch(
            self._look_at_memory,
            load_bytes=lambda: self._needs.load_bytes,
            is_loading=lambda: standing.state is State.LOADING,
        )
        self._steward = Steward(self._watch, self._supervisor, standing, self._ledger, self._needs)
        self._metrics = Metrics(models.default, self.health)
        self._router = Router(
            self._supervisor,
            Others(self._peers, time.monotonic),
            models=models,
            rules=self._rules,
            look=self._steward.look,
            sizes=self._sizes,
            ledger=self._ledger,
            tally=self._metrics,
            patience_s=config.engine.load_wait_s,
        )
        self._watch.subscribe(lambda _level: self._router.changed())
        standing.listen(lambda _state, _detail: self._router.changed())
        self._journal = Journal(home, config.journal)
        self._jobs = Jobs(
            config,
            self._journal,
            self._router,
            expected_wait_s=self._router.expected_wait_s,
        )
        self._http = HttpServer(
            config, self._router, self.health, self._metrics.render, self._supervisor
        )
        self._mqtt = MqttClient(config, self._jobs, self.health)

    def health(self) -> Health:
        """Return how the daemon is at this moment."""
        is_draining = self._router.is_draining
        load = self._router.load()
        peers = self._peers.states()
        return Health(
            state=State.DRAINING if is_draining else self._standing.state,
            detail="the daemon is going down" if is_draining else self._standing.detail,
            version=__version__,
            model=self._models.default,
            models=self._served,
            uptime_s=time.monotonic() - self._began_s,
            slots=self._config.engine.slots,
            running=self._supervisor.running,
            waiting=self._supervisor.waiting,
            engine_restarts=self._supervisor.restarts,
            jobs_open=self._jobs.open,
            durability=self._jobs.durability,
            mqtt=self._mqtt.state,
            answers=() if is_draining else answers(load.house, peers, self._rules),
            obstacles=obstacles(load, self._rules),
            memory=self._watch.as_health(),
            peers=peers_health(peers),
            held=self._ledger.held,
            at_peers=self._ledger.there,
            expected_wait_s=self._router.expected_wait_s(),
            predicted_bytes=self._ledger.predicted_bytes,
            loop_lag=self._lag.as_health(),
        )

    async def run(self, observer: Observer) -> None:
        """Serve until told to stop."""
        with only_instance(self._home):
            stopping = _stop_signals()
            self._standing.listen(_Herald(observer).change)
            self._steward.begin()
            async with AsyncExitStack() as house:
                await self._open(house)
                observer.listening(self._http.addresses)
                notify("READY=1", f"STATUS={self._standing.state}: {self._standing.detail}")
                async with asyncio.TaskGroup() as tasks:
                    engine = tasks.create_task(self._run_engine(), name="engine")
                    others = [
                        tasks.create_task(work, name=name)
                        for name, work in (
                            ("lag", self._lag.run()),
                            ("watchdog", self._feed_watchdog()),
                            ("memory", self._watch.run()),
                            ("peers", self._peers.run()),
                        )
                    ]
                    await stopping.wait()
                    await self._drain()
                    engine.cancel()
                    await stage("engine", lambda: asyncio.wait([engine]), STAGE_LIMIT_S)
                    for task in others:
                        task.cancel()
        logger.info("stopped uptime_s=%.0f", time.monotonic() - self._began_s)

    async def _open(self, house: AsyncExitStack) -> None:
        """Start what answers clients; `house` closes it again, the last first."""
        house.push_async_callback(stage, "peers", self._peers.close, STAGE_LIMIT_S)
        for name, start, close in (
            ("journal", self._journal.open, self._journal.close),
            ("http", self._http.start, self._http.close),
            ("jobs", self._jobs.start, self._jobs.close),
            ("mqtt", self._mqtt.start, self._mqtt.close),
        ):
            await start()
            house.push_async_callback(stage, name, close, STAGE_LIMIT_S)

    async def _run_engine(self) -> None:
        """Have the model, then keep its process alive; without a model, say so."""
        if self._find_engine is None:
            self._served = tuple(
                Served(name=name, created=0, context_tokens=None) for name in self._models.names
            )
            names = ", ".join(peer.name for peer in self._config.peers)
            self._standing.change(State.RELAY, f"no model is configured; peers answer: {names}")
            return
        source = await self._find_engine()
        self._served = tuple(
            msgspec.structs.replace(source.served, name=name) for name in self._models.names
        )
        self._needs.engine_bytes = source.engine_bytes
        if source.budget is not None:
            slots = self._config.engine.slots
            self._needs.shared_bytes = source.budget.shared_bytes(slots=slots)
        self._steward.context_tokens = source.served.context_tokens
        self._sizes.know(source.budget, source.served.context_tokens, self._steward.most_bytes)
        await self._supervisor.run(source.command)

    def _longest_token_bytes(self) -> int | None:
        ready = self._supervisor.ready
        return None if ready is None else ready.longest_token_bytes

    def _look_at_memory(self) -> Memory | None:
        """Look at memory as it is for us: less the reserve, within the budget."""
        engine = self._supervisor.child_pid
        seen = sample(pids=(os.getpid(), *([] if engine is None else [engine])))
        if seen is None:
            return None
        ours = self._config.memory
        return within(seen, budget_bytes=ours.budget_bytes, reserve_bytes=ours.reserve_bytes)

    async def _feed_watchdog(self) -> None:
        """Tell systemd that we live, as long as the loop turns and the engine beats or loads."""
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            if self._supervisor.is_alive:
                notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    async def _drain(self) -> None:
        """Take nothing new and give what runs `drain_s` to finish."""
        limit_s = self._config.daemon.drain_s
        logger.info("stopping open_requests=%d drain_s=%.0f", self._router.open_requests, limit_s)
        self._router.drain()
        self._mqtt.drain()
        extend_us = round((limit_s + NUM_STAGES * STAGE_LIMIT_S) * 1e6)
        notify("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={extend_us}")

        async def emptied() -> None:
            await asyncio.gather(self._router.wait_empty(), self._jobs.drain())

        await stage("drain", emptied, limit_s)


class _Herald:
    """Tells systemd, the log and the observer when the engine's standing changes."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._last: State | None = None
        self._was_ready = False

    def change(self, state: State, detail: str) -> None:
        notify(f"STATUS={state}: {detail}")
        if state is self._last:
            return  # progress; the log need not repeat what a pull writes itself
        self._last = state
        logger.info("state changed state=%s detail=%s", state, detail)
        if state in _ANSWERING and not self._was_ready:
            self._was_ready = True  # a model that comes and goes is not told each time
            self._observer.ready()


async def stage(name: str, work: Callable[[], Awaitable[object]], limit_s: float) -> None:
    """Do one step of the shutdown; a step that overruns is named and left behind."""
    try:
        async with asyncio.timeout(limit_s):
            await work()
    except TimeoutError:
        logger.warning("shutdown stage overran stage=%s limit_s=%.0f", name, limit_s)


def _stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second SIGINT ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stopping.is_set():
            os._exit(128 + signal.SIGINT)  # the engine sees its link end, the kernel frees the lock
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGHUP, logger.info, "reload is not supported signal=SIGHUP")
    return stopping
