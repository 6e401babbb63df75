"""What the verbs that run the engine in this very process share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent import config
from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path


def find_package(name: str) -> Path:
    """Return the directory of the package `name`.

    Raises:
        ModelError: it is not here; the sentence says how to get it.
    """
    try:
        return ModelStore(config.home_dir()).package(name)
    except ModelNotFound as exc:
        msg = f"{exc}; fetch it with: edge-agent model pull {name}"
        raise ModelError(msg) from exc


def compute_threads(settings: config.Config) -> int:
    """Return how many threads the configuration means on this machine."""
    threads = settings.engine.threads
    return usable_cores() if threads == "auto" else threads
