"""Which engine process the daemon runs, and what is known of it before it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from edge_agent.guard.budget import Budget
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import fault
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.health import Served
from edge_agent.serving.sizing import engine_bytes
from edge_agent.worker.command import engine_command
from edge_agent.worker.preparation import Preparation, prepare_command, pull_command

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.config import Config
    from edge_agent.serving import sizing
    from edge_agent.worker.standing import Standing


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


FindEngine: TypeAlias = Callable[[], Awaitable[EngineSource]]


def package_finder(config: Config, home: Path, base: str, standing: Standing) -> FindEngine:
    """Return what brings the package `base` into the store of `home`, however long it takes.

    `standing` hears how far it is.
    """
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

    return find_engine
