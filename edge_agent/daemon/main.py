"""Runs the real daemon: the model that is configured, or none and its peers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_agent.daemon.engine_source import package_finder
from edge_agent.daemon.lifetime import Daemon
from edge_agent.daemon.parts import Parts
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.ops.health import State
from edge_agent.serving.models import Models
from edge_agent.worker.standing import Standing

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.config import Config
    from edge_agent.daemon.herald import Observer

logger = logging.getLogger(__name__)


async def run(config: Config, home: Path, observer: Observer) -> None:
    """Run the real daemon until SIGTERM or SIGINT, with its state in `home`.

    Raises:
        ConfigError: it cannot start as configured.
    """
    standing = Standing(State.LOADING, "starting")
    if config.model is None:
        models = Models.of_peers([peer.model for peer in config.peers])
        await Daemon(Parts(config, home, standing, models), None).run(observer)
        return
    catalog = catalog_of(home)
    for problem in catalog.problems:
        logger.warning("card not read problem=%s", problem)
    base = catalog.base(config.model)
    variants = catalog.variants_of(base)
    models = Models(config.model, base, variants)
    parts = Parts(config, home, standing, models)
    find_engine = package_finder(config, home, base, standing, parts.look_at_memory, variants)
    await Daemon(parts, find_engine).run(observer)
