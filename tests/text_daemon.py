"""The whole daemon with an engine process that needs no model: `python tests/text_daemon.py ARGS`.

Everything but the model is real. ARGS go to the text engine; configuration comes from the
environment as for `edge-agent serve`, and so does what is printed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from edge_agent import config
from edge_agent.cli.serve import Terminal
from edge_agent.daemon.engine_source import EngineSource
from edge_agent.daemon.lifetime import Daemon
from edge_agent.daemon.parts import Parts
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.ops import log
from edge_agent.ops.health import Served, State
from edge_agent.serving.models import Models
from edge_agent.worker.standing import Standing

BASE = str(config.Config().model)
TEXT_ENGINE = Path(__file__).parent / "worker" / "text_engine.py"


async def find_engine() -> EngineSource:
    """Return the text engine in place of a model package."""
    served = Served(name=BASE, created=0, context_tokens=1000)
    return EngineSource(command=[sys.executable, str(TEXT_ENGINE), *sys.argv[1:]], served=served)


def main() -> None:
    """Run until stopped."""
    settings = config.load()
    log.set_up(settings.daemon.log_level, settings.daemon.log_format)
    standing = Standing(State.LOADING, "starting")
    if settings.model is None:
        models = Models.of_peers([peer.model for peer in settings.peers])
        find = None
    else:
        models = Models(settings.model, BASE, catalog_of(config.home_dir()).variants_of(BASE))
        find = find_engine
    daemon = Daemon(Parts(settings, config.home_dir(), standing, models), find)
    asyncio.run(daemon.run(Terminal(settings)))


if __name__ == "__main__":
    main()
