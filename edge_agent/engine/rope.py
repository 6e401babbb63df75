"""Rotary position tables: rows of cosines and sines that the attention op looks positions up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_agent.modelstore.manifest import Rope


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeTables:
    """cos and sin, both float32 [rows, dims/2]; long-mode positions begin at row `long_offset`."""

    cos: NDArray[np.float32]
    sin: NDArray[np.float32]
    short_limit: int
    """Requests that can grow past this many tokens must use the long rows."""
    long_offset: int


def rope_tables(rope: Rope, *, capacity: int) -> RopeTables:
    """Build the tables for caches of `capacity` tokens.

    Short rows come first, one per position; long rows follow if the model has long factors and
    the capacity can reach them. Computed in float32, step by step as the reference does it
    (transformers' `rope_utils`): float64 would differ from what the model was trained with.
    """
    if not rope.long_factors or capacity <= rope.original_context:
        short = _angles(rope, rope.short_factors, rows=capacity)
        return _joined([short], rope, short_limit=capacity)
    short = _angles(rope, rope.short_factors, rows=rope.original_context)
    long = _angles(rope, rope.long_factors, rows=capacity)
    return _joined([short, long], rope, short_limit=rope.original_context)


def _angles(rope: Rope, factors: Sequence[float], *, rows: int) -> NDArray[np.float32]:
    """Return position times frequency, float32 [rows, dims/2]."""
    exponents = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    scale = np.asarray(factors or [1.0] * len(exponents), dtype=np.float32)
    inverse = np.float32(1) / (scale * np.float32(rope.theta) ** exponents)
    positions = np.arange(rows, dtype=np.float32)
    angles: NDArray[np.float32] = np.multiply.outer(positions, inverse).astype(np.float32)
    return angles


def _joined(tables: list[NDArray[np.float32]], rope: Rope, *, short_limit: int) -> RopeTables:
    angles = np.concatenate(tables)
    factor = np.float32(rope.attention_factor)
    return RopeTables(
        cos=np.cos(angles) * factor,
        sin=np.sin(angles) * factor,
        short_limit=short_limit,
        long_offset=len(tables[0]),
    )
