"""Loads a package: from files to the parts that an engine steps with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.engine.decoder import Decoder
from edge_agent.engine.heap import give_back
from edge_agent.engine.pinned import Pinner, Shelf
from edge_agent.engine.prefix import Prefixes
from edge_agent.engine.prepare import Preparer
from edge_agent.modelstore.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_agent.engine.kv_cache import KvDtype
    from edge_agent.messages import Beginning

# Beyond those that run, for prefixes to stay where they are: conversations and system prompts that
# take turns, and preempted requests. They cost addresses, and a comparison each.
_SPARE_SLOTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A package in memory."""

    name: str
    context: int
    """Tokens of a request and its answer, at most."""
    preparer: Preparer
    decoder: Decoder
    prefixes: Prefixes
    """What the slots of `decoder` hold; what is pinned is there from the start."""


def load(  # noqa: PLR0913  # each is a knob of the configuration, named by keyword
    package: Path,
    *,
    slots: int,
    context: int,
    chunk_tokens: int,
    threads: int,
    kv_dtype: KvDtype,
    prefix_bytes: int | None,
    pinned: Sequence[Beginning] | None,
) -> Loaded:
    """Load `package`, as `Engine` tells.

    Raises:
        ModelError: the package cannot be loaded.
    """
    manifest = read_manifest(package)
    context = min(context, manifest.context)
    rows = slots if prefix_bytes == 0 else slots + _SPARE_SLOTS
    preparer = Preparer(package, manifest, context=context)
    decoder = Decoder(
        package,
        manifest,
        slots=rows,
        # A row is checked with its padded chunk, so the caches reach one chunk past the context.
        tokens=context + chunk_tokens,
        threads=threads,
        kv_dtype=kv_dtype,
    )
    bytes_of = decoder.arena.bytes_of
    prefixes = Prefixes(
        num_slots=rows,
        most_tokens=context,
        budget_bytes=bytes_of(context) if prefix_bytes is None else prefix_bytes,
        bytes_of=bytes_of,
    )
    if pinned is not None:
        Pinner(
            preparer=preparer,
            decoder=decoder,
            prefixes=prefixes,
            shelf=Shelf(package, manifest, kv_dtype),
            context=context,
            chunk_tokens=chunk_tokens,
        ).pin(pinned)
    give_back()
    return Loaded(
        name=manifest.name, context=context, preparer=preparer, decoder=decoder, prefixes=prefixes
    )
