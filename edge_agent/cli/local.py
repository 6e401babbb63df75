"""What the verbs that run the engine in this very process share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent import config
from edge_agent.errors import ConfigError, ModelError, ModelNotFound
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.modelstore.kv_dtype import settle
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import fault
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.cores import usable_cores
from edge_agent.ops.machine import look

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.messages import Request


def model_name(asked: str | None, settings: config.Config) -> str:
    """Return the model that is `asked` for on the command line, else the configured one.

    Raises:
        ConfigError: there is neither.
    """
    name = asked or settings.model
    if name is None:
        where, problem = "model", "is null here (peers answer everything); name one with --model"
        raise ConfigError(where, problem)
    return name


def find_package(name: str) -> Path:
    """Return the directory of the package `name`; of a variant, that of its base.

    Raises:
        ModelError: it is not here; the sentence says how to get it.
    """
    home = config.home_dir()
    try:
        return ModelStore(home).package(catalog_of(home).base(name))
    except ModelNotFound as exc:
        msg = f"{exc}; fetch it with: edge-agent model pull {name}"
        raise ModelError(msg) from exc


def dress(name: str, request: Request) -> Request:
    """Return `request` as the model shall see it that is called `name`: if a variant, with it."""
    catalog = catalog_of(config.home_dir())
    variant = catalog.variants_of(catalog.base(name)).get(name)
    return variant.dress(request) if variant else request


def kv_dtype(engine: config.Engine, package: Path) -> str:
    """Return what the KV cache of `package` stores on this machine, served as `engine` says."""
    manifest = read_manifest(package)
    return settle(
        engine,
        package,
        manifest,
        free_bytes=look(config.home_dir()).free_bytes,
        is_prepared=fault(package, manifest) is None,
    ).kv_dtype


def compute_threads(settings: config.Config) -> int:
    """Return how many threads the configuration means on this machine."""
    threads = settings.engine.threads
    return usable_cores() if threads == "auto" else threads
