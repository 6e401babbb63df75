"""Rotary position tables: rows of cosines and sines that the attention op looks positions up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from edge_agent.modelstore.manifest import Rope

_PIECE_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeTables:
    """cos and sin, both [rows, dims/2]; long-mode positions begin at row `long_offset`."""

    cos: NDArray[np.floating[Any]]
    sin: NDArray[np.floating[Any]]
    short_limit: int
    """Requests that can grow past this many tokens must use the long rows."""
    long_offset: int


def rope_tables(rope: Rope, *, capacity: int, dtype: DTypeLike = np.float32) -> RopeTables:
    """Build the tables for caches of `capacity` tokens.

    Short rows come first, one per position; long rows follow if the model has long factors and
    the capacity can reach them. Computed in float32, step by step as the reference does it
    (transformers' `modeling_rope_utils`): float64 would differ from what the model was trained
    with. Only then it is rounded to `dtype`.
    """
    is_long = bool(rope.long_factors) and capacity > rope.original_context
    modes = [(rope.short_factors, rope.original_context if is_long else capacity)]
    if is_long:
        modes.append((rope.long_factors, capacity))
    short_rows = modes[0][1]
    dimensions = (sum(rows for _, rows in modes), rope.dims // 2)
    tables = RopeTables(
        cos=np.empty(dimensions, dtype),
        sin=np.empty(dimensions, dtype),
        short_limit=short_rows,
        long_offset=short_rows,
    )
    first = 0
    for factors, rows in modes:
        _fill(tables, rope, _inverse_frequencies(rope, factors), first=first, rows=rows)
        first += rows
    return tables


def _inverse_frequencies(rope: Rope, factors: Sequence[float]) -> NDArray[np.float32]:
    exponents = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    scale = np.asarray(factors or [1.0] * len(exponents), dtype=np.float32)
    # Rounded once, as the reference's power function does it: numpy's own in float32 is off by a
    # last place at every fourth frequency, which is 0.01 radians at position 131,072.
    powers = np.power(rope.theta, exponents.astype(np.float64)).astype(np.float32)
    return np.float32(1) / (scale * powers)


def _fill(
    tables: RopeTables, rope: Rope, inverse: NDArray[np.float32], *, first: int, rows: int
) -> None:
    factor = np.float32(rope.attention_factor)
    # Piece by piece: at 131,072 positions whole intermediate arrays would double the memory.
    for start in range(0, rows, _PIECE_ROWS):
        stop = min(start + _PIECE_ROWS, rows)
        angles = np.multiply.outer(np.arange(start, stop, dtype=np.float32), inverse)
        tables.cos[first + start : first + stop] = np.cos(angles) * factor
        tables.sin[first + start : first + stop] = np.sin(angles) * factor
