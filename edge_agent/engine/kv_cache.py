"""The KV cache: an arena of virtual memory, one private anonymous mapping per layer and side.

Pages cost memory only once touched; releasing a slot gives its pages back to the system.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from edge_agent.modelstore.manifest import Shape

_PAGE_BYTES = 4096


def capacity_for(shape: Shape, *, tokens: int, dtype: DTypeLike) -> int:
    """Return the least capacity >= `tokens` at which a slot is a whole number of pages."""
    row_bytes = shape.kv_heads * shape.head_dim * np.dtype(dtype).itemsize
    step = _PAGE_BYTES // math.gcd(_PAGE_BYTES, row_bytes)
    return -(-tokens // step) * step


class KvArena:
    """K and V of every layer and slot, each array shaped [slots, kv_heads, capacity, head_dim]."""

    def __init__(self, shape: Shape, *, slots: int, capacity: int, dtype: DTypeLike) -> None:
        dimensions = (slots, shape.kv_heads, capacity, shape.head_dim)
        self.slots = slots
        self.capacity = capacity
        self._slot_bytes = math.prod(dimensions[1:]) * np.dtype(dtype).itemsize
        self._maps = [_map(self._slot_bytes * slots) for _ in range(2 * shape.layers)]
        arrays = [np.frombuffer(m, dtype=dtype).reshape(dimensions) for m in self._maps]
        self.layers: list[tuple[NDArray[Any], NDArray[Any]]] = list(
            zip(arrays[::2], arrays[1::2], strict=True)
        )

    def release(self, slot: int) -> None:
        """Give the pages of `slot` back; it reads as zeros afterwards."""
        for mapping in self._maps:
            mapping.madvise(mmap.MADV_DONTNEED, slot * self._slot_bytes, self._slot_bytes)


def _map(size_bytes: int) -> mmap.mmap:
    # Private, or MADV_DONTNEED would free nothing: Python's default mapping is a shared one.
    mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Huge pages would commit 2 MiB at the first touch of every head's strip.
    mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return mapping
