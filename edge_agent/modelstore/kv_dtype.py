"""Picks what the KV cache stores, by memory, context and what a package has graphs and scales for.

The decision is pure; beside it stands what finds out about a package. Loads no numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from edge_agent.modelstore.fit import Fit, fit
from edge_agent.modelstore.scales import find_scales

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from edge_agent.config import Engine
    from edge_agent.modelstore.manifest import Manifest, Quantization, Shape

Judge: TypeAlias = Callable[[str], Fit]
"""How a model fits, by the type of its KV cache."""

AUTO = "auto"
# Full slots must leave as much to what the sum does not know: page cache, kept prefixes, others.
_HEADROOM_SHARE = 0.2
_MB = 1e6


class KvChoice(Struct, frozen=True, kw_only=True):
    """What the cache stores, and why."""

    kv_dtype: str
    reason: str


def usable_kinds(package: Path, manifest: Manifest) -> frozenset[str]:
    """Return the KV types that `package` can be served with."""
    kinds = set(manifest.graphs)
    if find_scales(package) is None:
        kinds.discard("int8")
    return frozenset(kinds)


def choose(asked: str, judge: Judge, kinds: Collection[str]) -> KvChoice:
    """Return the KV type that `asked` means, where `judge` says what each type needs.

    `auto` is one of `kinds`: fp32, which is exact and fastest while contexts are short, where all
    slots may fill up and leave a fifth of the memory. Else int8, which reads a quarter of the bytes
    for each token; without scales fp16, which needs scores beside the cache.
    """
    if asked != AUTO:
        return KvChoice(kv_dtype=asked, reason="configured")
    exact = judge("fp32")
    if exact.needed_bytes <= (1 - _HEADROOM_SHARE) * exact.available_bytes:
        return KvChoice(kv_dtype="fp32", reason=f"full slots fit in fp32: {_sum(exact)}")
    why = f"full slots in fp32 would leave too little: {_sum(exact)}"
    if "int8" in kinds:
        return KvChoice(kv_dtype="int8", reason=why)
    why = f"{why}; int8 needs scales, see `edge-agent model calibrate`"
    if "fp16" in kinds and judge("fp16").needed_bytes < exact.needed_bytes:
        return KvChoice(kv_dtype="fp16", reason=why)
    return KvChoice(kv_dtype="fp32", reason=why)


def settle(
    engine: Engine, package: Path, manifest: Manifest, *, free_bytes: int | None, is_prepared: bool
) -> KvChoice:
    """Return the KV type for `package`, served as `engine` says on a machine with `free_bytes`.

    Memory that nobody knows (None) is taken for plenty.
    """
    if free_bytes is None and engine.kv_dtype == AUTO:
        return KvChoice(kv_dtype="fp32", reason="the system does not say how much memory is free")
    judge = judge_of(
        engine,
        manifest.shape,
        manifest.quantization,
        free_bytes=free_bytes or 0,
        is_prepared=is_prepared,
        longest_context=manifest.context,
    )
    return choose(engine.kv_dtype, judge, usable_kinds(package, manifest))


def judge_of(
    engine: Engine,
    shape: Shape,
    quantization: Quantization,
    *,
    free_bytes: int,
    is_prepared: bool,
    longest_context: int,
) -> Judge:
    """Return what judges how a model fits, served as `engine` says, by the type of its KV cache."""

    def judge(kv_dtype: str) -> Fit:
        return fit(
            shape,
            quantization,
            free_bytes=free_bytes,
            is_prepared=is_prepared,
            slots=engine.slots,
            context=min(engine.context, longest_context),
            longest_context=longest_context,
            chunk_tokens=engine.chunk_tokens,
            kv_dtype=kv_dtype,
            prefix_bytes=engine.most_prefix_bytes,
        )

    return judge


def _sum(judged: Fit) -> str:
    return f"{judged.needed_bytes / _MB:.0f} of {judged.available_bytes / _MB:.0f} MB"
