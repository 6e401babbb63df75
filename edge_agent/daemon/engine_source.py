"""Which engine process the daemon runs, and what is known of it before it runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from edge_agent.daemon.pinned_prompts import find_pinned, write_pinned
from edge_agent.guard.budget import Budget
from edge_agent.modelstore.fit import RESERVE_BYTES
from edge_agent.modelstore.kv_dtype import settle
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
    from edge_agent.guard.memory import Memory
    from edge_agent.modelstore.card import Variant
    from edge_agent.modelstore.kv_dtype import KvChoice
    from edge_agent.serving import sizing
    from edge_agent.worker.standing import Standing

logger = logging.getLogger(__name__)


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
    kv: KvChoice | None = None
    """What the KV cache stores, and why."""
    longest_token_bytes: int | None = None
    """Bytes of text that one token stands for at most; None if that is not known."""


FindEngine: TypeAlias = Callable[[], Awaitable[EngineSource]]


def package_finder(
    config: Config,
    home: Path,
    base: str,
    standing: Standing,
    look: Callable[[], Memory | None],
    variants: Mapping[str, Variant],
) -> FindEngine:
    """Return what brings the package `base` into the store of `home`, however long it takes.

    `standing` hears how far it is; `look` tells what memory there is for the KV cache; `variants`
    have system prompts that may be pinned.

    Raises:
        ConfigError: what is to be pinned is not to be found, or no prompt and no tools.
    """
    pinned = find_pinned(config.engine.pinned, variants, config.limits)
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
        is_prepared = fault(package, manifest) is None
        memory = look()
        kv = settle(
            config.engine,
            package,
            manifest,
            # `look` has taken off what is left to others, and the sum does so again.
            free_bytes=None if memory is None else memory.available_bytes + RESERVE_BYTES,
            is_prepared=is_prepared,
        )
        logger.info("KV cache chosen kv_dtype=%s reason=%s", kv.kv_dtype, kv.reason)
        engine = msgspec.structs.replace(config.engine, kv_dtype=kv.kv_dtype)
        return EngineSource(
            command=engine_command(
                msgspec.structs.replace(config, engine=engine),
                package,
                pinned=write_pinned(home, pinned),
            ),
            served=Served(name=manifest.name, created=manifest.created, context_tokens=context),
            engine_bytes=engine_bytes(manifest, engine, is_prepared=is_prepared),
            budget=Budget(
                shape=manifest.shape,
                kv_dtype=kv.kv_dtype,
                chunk_tokens=engine.chunk_tokens,
                context_tokens=context,
            ),
            kv=kv,
            longest_token_bytes=manifest.longest_token_bytes,
        )

    return find_engine
