"""The KV cache: an arena of virtual memory, one private anonymous mapping per layer and side.

Pages cost memory only once touched; releasing a slot gives its pages back to the system.
"""

from __future__ import annotations

import math
import mmap
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from edge_agent.modelstore.manifest import Shape

# 4 KiB almost everywhere; some boards run kernels with 16 or 64 KiB.
_PAGE_BYTES = mmap.PAGESIZE
# Python names it from 3.13 on; the value is that of x86, ARM and RISC-V.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


class KvDtype(StrEnum):
    """What the cache stores."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    """With one calibrated scale for every channel of every layer's K and V."""

    @property
    def stored(self) -> np.dtype[Any]:
        """The array type of the cache."""
        names = {KvDtype.FP32: "float32", KvDtype.FP16: "float16", KvDtype.INT8: "int8"}
        return np.dtype(names[self])

    @property
    def computed(self) -> np.dtype[Any]:
        """The array type of the rope tables, in which attention computes."""
        return np.dtype("float16" if self is KvDtype.FP16 else "float32")


def capacity_for(shape: Shape, *, tokens: int, dtype: DTypeLike) -> int:
    """Return the least capacity >= `tokens` at which each head's strip is whole pages."""
    step = _PAGE_BYTES // math.gcd(_PAGE_BYTES, shape.head_dim * np.dtype(dtype).itemsize)
    return -(-tokens // step) * step


class KvArena:
    """K and V of every layer and slot, each array shaped [slots, kv_heads, capacity, head_dim].

    The part [capacity, head_dim] of one head in one slot is a strip.
    """

    def __init__(self, shape: Shape, *, slots: int, capacity: int, dtype: DTypeLike) -> None:
        """Reserve addresses for all of it; memory comes with the tokens.

        Raises:
            ModelError: the system does not give so many addresses.
        """
        dimensions = (slots, shape.kv_heads, capacity, shape.head_dim)
        self.slots = slots
        self.capacity = capacity
        self._attached: list[NDArray[Any]] = []
        self._row_bytes = shape.head_dim * np.dtype(dtype).itemsize
        self._strip_bytes = capacity * self._row_bytes
        self._kv_heads = shape.kv_heads
        self._slot_bytes = shape.kv_heads * self._strip_bytes
        self._maps = [_map(self._slot_bytes * slots) for _ in range(2 * shape.layers)]
        arrays = [np.frombuffer(m, dtype=dtype).reshape(dimensions) for m in self._maps]
        self.layers: list[tuple[NDArray[Any], NDArray[Any]]] = list(
            zip(arrays[::2], arrays[1::2], strict=True)
        )

    def bytes_of(self, tokens: int) -> int:
        """Return the memory that the first `tokens` of a slot take: whole pages of every strip."""
        return len(self._maps) * self._kv_heads * self._used_bytes(tokens)

    def strips_shape(self, tokens: int) -> tuple[int, int, int, int, int]:
        """Return the shape of the strips of `tokens`: all layers and both sides of one slot."""
        _, kv_heads, _, head_dim = self.layers[0][0].shape
        return len(self.layers), 2, kv_heads, tokens, head_dim

    def strips(self, slot: int, tokens: int) -> NDArray[Any]:
        """Return a copy of the first `tokens` of `slot`, shaped as `strips_shape` says."""
        out = np.empty(self.strips_shape(tokens), self.layers[0][0].dtype)
        for sides, parts in zip(self.layers, out, strict=True):
            for array, part in zip(sides, parts, strict=True):
                part[:] = array[slot, :, :tokens]
        return out

    def attach(self, strips: NDArray[Any]) -> int:
        """Give `strips`, perhaps those of a file, a number behind the slots: `copy` takes it."""
        self._attached.append(strips)
        return self.slots + len(self._attached) - 1

    def copy(self, source: int, target: int, *, start: int, stop: int) -> None:
        """Make the tokens [start, stop) of slot `target` those of slot `source`, or attached."""
        if source >= self.slots:
            self.store(target, self._attached[source - self.slots][..., start:stop, :], start=start)
            return
        for sides in self.layers:
            for array in sides:
                array[target, :, start:stop] = array[source, :, start:stop]

    def store(self, slot: int, strips: NDArray[Any], *, start: int) -> None:
        """Let `slot` hold `strips` [layers, 2, kv_heads, tokens, head_dim] from `start` on."""
        stop = start + strips.shape[3]
        for sides, news in zip(self.layers, strips, strict=True):
            for array, new in zip(sides, news, strict=True):
                array[slot, :, start:stop] = new

    def release(self, slot: int, *, keep_tokens: int = 0) -> None:
        """Give the pages of `slot` back, but those of its first `keep_tokens`.

        What was given back reads as zeros afterwards.
        """
        start = slot * self._slot_bytes
        if keep_tokens == 0:
            strips = [(start, self._slot_bytes)]
        else:
            kept = self._used_bytes(keep_tokens)
            ends = range(start + kept, start + self._slot_bytes, self._strip_bytes)
            strips = [(end, self._strip_bytes - kept) for end in ends]
        for mapping in self._maps:
            for first, size_bytes in strips:
                mapping.madvise(mmap.MADV_DONTNEED, first, size_bytes)

    def _used_bytes(self, tokens: int) -> int:
        """Return the bytes of a strip's pages that `tokens` tokens touch."""
        return -(-tokens * self._row_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _map(size_bytes: int) -> mmap.mmap:
    # Private, or MADV_DONTNEED would free nothing: Python's default mapping is a shared one.
    # Unreserved, or the kernel would refuse at once what is larger than all memory.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        mapping = mmap.mmap(-1, size_bytes, flags=flags)
    except OSError as exc:
        msg = (
            f"no address space for a KV cache of {size_bytes} bytes per layer and side"
            f" ({exc.strerror}): lower engine.slots or engine.context"
        )
        raise ModelError(msg) from exc
    # Huge pages would commit 2 MiB at the first touch of every head's strip.
    mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return mapping
