"""How GGML stores numbers: block sizes of each type, and raw bytes -> affine blocks or floats.

A quantized row is a run of blocks of 32 weights, each `scale * q + offset` with small integers q.
Knows nothing of files, tensors' names or of the layout a package uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

Raw = NDArray[np.uint8]
F32 = NDArray[np.float32]

BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A GGML type: `block_bytes` bytes hold `block` weights."""

    name: str
    block: int
    block_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a row of `columns` weights, which must be whole blocks."""
        if columns % self.block:
            msg = f"rows of {columns} weights are not whole blocks of {self.block} ({self.name})"
            raise ModelError(msg)
        return columns // self.block * self.block_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Rows of blocks, each weight `scale * q + offset`.

    `q` is int16 [rows, blocks, 32]; `scale` and `offset` are float32 [rows, blocks].
    """

    q: NDArray[np.int16]
    scale: F32
    offset: F32

    def floats(self) -> F32:
        """Return the weights, float32 [rows, blocks * 32], rounded as GGML rounds them."""
        weights = self.scale[..., None] * self.q.astype(np.float32) + self.offset[..., None]
        return weights.reshape(len(weights), -1)


# The numbers are those of the GGUF format. All are measurable; those below are also readable.
KINDS: dict[int, Kind] = {
    number: Kind(name=name, block=block, block_bytes=block_bytes)
    for number, name, block, block_bytes in (
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (30, "BF16", 1, 2),
    )
}


def dense(kind: Kind, raw: Raw) -> F32:
    """Return rows of floats, float32 [rows, columns], from raw uint8 [rows, row bytes].

    Raises:
        ModelError: this version does not read `kind`, or a weight is not finite.
    """
    if kind.name in _AFFINE:
        return affine(kind, raw).floats()
    read = _DENSE.get(kind.name)
    if read is None:
        raise _unread(kind)
    weights = read(raw)
    if not np.isfinite(weights).all():
        msg = f"{kind.name} weights hold infinity or NaN"
        raise ModelError(msg)
    return weights


def affine(kind: Kind, raw: Raw) -> Affine:
    """Return the blocks of raw rows, uint8 [rows, row bytes].

    Raises:
        ModelError: `kind` has no such blocks or is not read, or a scale is not finite.
    """
    read = _AFFINE.get(kind.name)
    if read is None:
        raise _unread(kind)
    blocks = read(raw.reshape(len(raw), -1, kind.block_bytes))
    if not (np.isfinite(blocks.scale).all() and np.isfinite(blocks.offset).all()):
        msg = f"{kind.name} scales hold infinity or NaN"
        raise ModelError(msg)
    return blocks


def is_affine(kind: Kind) -> bool:
    """Tell whether `kind` is stored as blocks that `affine` reads."""
    return kind.name in _AFFINE


def is_narrow(kind: Kind) -> bool:
    """Tell whether `kind` has blocks of 4-bit values with offsets."""
    return kind.name in _NARROW


def _unread(kind: Kind) -> ModelError:
    known = ", ".join(sorted({*_DENSE, *_AFFINE}))
    return ModelError(f"weights of type {kind.name} are not read by this version; it reads {known}")


def _half(raw: Raw) -> F32:
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def _q8_0(blocks: Raw) -> Affine:
    scale = _half(blocks[..., :2])[..., 0]
    q = np.ascontiguousarray(blocks[..., 2:]).view(np.int8).astype(np.int16)
    return Affine(q=q, scale=scale, offset=np.zeros_like(scale))


def _q4_1(blocks: Raw) -> Affine:
    nibbles = blocks[..., 4:]
    # Byte j holds weight j in its low half and weight j + 16 in its high half.
    q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int16)
    scale, offset = _half(blocks[..., :2])[..., 0], _half(blocks[..., 2:4])[..., 0]
    return Affine(q=q, scale=scale, offset=offset)


_DENSE: dict[str, Callable[[Raw], F32]] = {
    "F32": lambda raw: np.ascontiguousarray(raw).view("<f4").astype(np.float32),
    "F16": _half,
}
_AFFINE: dict[str, Callable[[Raw], Affine]] = {"Q4_1": _q4_1, "Q8_0": _q8_0}
_NARROW = {"Q4_1"}
