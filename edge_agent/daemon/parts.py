"""The parts of the daemon, built once and made known to each other. None of them runs yet."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.guard.memory import within
from edge_agent.guard.sample import count_oom_kills, sample
from edge_agent.guard.watch import Watch
from edge_agent.ops.health import Health, Served, State
from edge_agent.ops.lag import Lag
from edge_agent.ops.metrics import Metrics
from edge_agent.serving.admission import Rules
from edge_agent.serving.jobs import Jobs
from edge_agent.serving.journal import Journal
from edge_agent.serving.ledger import Ledger
from edge_agent.serving.others import Others
from edge_agent.serving.peers.peers import Peers
from edge_agent.serving.router import Router
from edge_agent.serving.sizing import Sizes
from edge_agent.serving.steward import EngineNeeds, Steward
from edge_agent.serving.wellness import answers, obstacles, peers_health, with_contexts
from edge_agent.transports.http.server import HttpServer
from edge_agent.transports.mqtt.client import MqttClient
from edge_agent.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.config import Config
    from edge_agent.guard.memory import Memory
    from edge_agent.modelstore.kv_dtype import KvChoice
    from edge_agent.serving.models import Models
    from edge_agent.worker.standing import Standing


class Parts:
    """Everything that runs in the daemon's process."""

    def __init__(self, config: Config, home: Path, standing: Standing, models: Models) -> None:
        """Build the parts of one daemon with its state in `home`.

        Raises:
            ConfigError: a file that the configuration names cannot be used.
        """
        self.config = config
        self.home = home
        self.standing = standing
        self.models = models
        self._began_s = time.monotonic()
        self.served: tuple[Served, ...] = ()
        """What answers, once it is known."""
        self.kv: KvChoice | None = None
        """What the KV cache stores, once that is known."""
        self.needs = EngineNeeds()
        self.lag = Lag()
        self.sizes = Sizes()
        self.peers = Peers(config.peers, config.routing)
        self.supervisor = Supervisor(
            config.engine,
            config.memory,
            standing,
            count_oom_kills=count_oom_kills,
            without_engine=_without_engine(config),
        )
        self.watch = Watch(
            self.look_at_memory,
            load_bytes=lambda: self.needs.load_bytes,
            is_loading=lambda: standing.state is State.LOADING,
        )
        self._rules = Rules.of(config)
        self._ledger = Ledger()
        self.steward = Steward(self.watch, self.supervisor, standing, self._ledger, self.needs)
        self._metrics = Metrics(models.default, self.health)
        self.router = Router(
            self.supervisor,
            Others(self.peers, time.monotonic),
            models=models,
            rules=self._rules,
            look=self.steward.look,
            sizes=self.sizes,
            ledger=self._ledger,
            tally=self._metrics,
            patience_s=config.engine.load_wait_s,
        )
        self.watch.subscribe(lambda _level: self.router.changed())
        standing.listen(lambda _state, _detail: self.router.changed())
        self.journal = Journal(home, config.journal)
        self.jobs = Jobs(
            config,
            self.journal,
            self.router,
            expected_wait_s=self.router.expected_wait_s,
        )
        self.http = HttpServer(
            config, self.router, self.health, self._metrics.render, self.supervisor
        )
        self.mqtt = MqttClient(config, self.jobs, self.health)

    @property
    def uptime_s(self) -> float:
        """How long ago the parts were built."""
        return time.monotonic() - self._began_s

    def health(self) -> Health:
        """Return how the daemon is at this moment."""
        is_draining = self.router.is_draining
        load = self.router.load()
        peers = self.peers.states()
        return Health(
            state=State.DRAINING if is_draining else self.standing.state,
            detail="the daemon is going down" if is_draining else self.standing.detail,
            version=__version__,
            model=self.models.default,
            models=with_contexts(self.served, peers, self._rules),
            uptime_s=self.uptime_s,
            slots=self.config.engine.slots,
            kv=self.kv,
            running=self.supervisor.running,
            waiting=self.supervisor.waiting,
            engine_restarts=self.supervisor.restarts,
            kv_usage=self._kv_usage,
            kept_bytes=self.supervisor.kept_bytes,
            drafted_tokens=self.supervisor.drafts.drafted,
            accepted_tokens=self.supervisor.drafts.accepted,
            jobs_open=self.jobs.open,
            durability=self.jobs.durability,
            mqtt=self.mqtt.state,
            answers=() if is_draining else answers(load, peers, self._rules),
            obstacles=obstacles(load, self._rules),
            memory=self.watch.as_health(),
            peers=peers_health(peers),
            cap_tokens=load.house.cap_tokens,
            held=self._ledger.held,
            at_peers=self._ledger.there,
            expected_wait_s=self.router.expected_wait_s(),
            predicted_bytes=self._ledger.predicted_bytes,
            loop_lag=self.lag.as_health(),
        )

    @property
    def _kv_usage(self) -> float:
        """The share of the slots' KV cache that running requests fill."""
        context = self.steward.context_tokens
        if context is None:
            return 0.0
        return min(1.0, self.supervisor.running_tokens / (context * self.config.engine.slots))

    def look_at_memory(self) -> Memory | None:
        """Look at memory as it is for us: less the reserve, within the budget."""
        engine = self.supervisor.child_pid
        seen = sample(pids=(os.getpid(), *([] if engine is None else [engine])))
        if seen is None:
            return None
        ours = self.config.memory
        return within(seen, budget_bytes=ours.budget_bytes, reserve_bytes=ours.reserve_bytes)


def _without_engine(config: Config) -> State:
    """Return the state of a daemon whose processor cannot run the engine: peers answer, if any."""
    has_help = bool(config.peers) and config.routing.fallback != "never"
    return State.RELAY if has_help else State.FAILED
