"""Turns weights into the blocks MatMulNBits multiplies: 4 or 8 bits, one scale to a block.

A weight is `scale * (value - centre)`, plus the `offset` of its block where there is one. The
centre is 8 or 128, or the block's zero point where there are such. Pure arithmetic on arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edge_agent.importers.arrays import F32, Raw

NIBBLE, BYTE = 4, 8  # bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows of blocks.

    `values` uint8 [rows, blocks, block * bits / 8], of two nibbles the low one first; `scales` and
    `offsets` float32 [rows, blocks]; `zero_points` uint8 [rows, ceil(blocks * bits / 8)], packed
    as values are. Offsets and zero points do not come together.
    """

    bits: int
    values: Raw
    scales: F32
    offsets: F32 | None = None
    zero_points: Raw | None = None

    @property
    def block(self) -> int:
        """Weights to a block."""
        return int(self.values.shape[-1]) * BYTE // self.bits

    def floats(self) -> F32:
        """Return the weights, float32 [rows, blocks * block]."""
        codes = unpack(self.values, self.bits).astype(np.float32)
        weights = (codes - self._centres()) * self.scales[..., None]
        if self.offsets is not None:
            weights += self.offsets[..., None]
        return weights.reshape(len(weights), -1)

    def _centres(self) -> F32:
        """Return what is taken from the values, float32 [rows or 1, blocks or 1, 1]."""
        if self.zero_points is None:
            return np.full((1, 1, 1), centre(self.bits), np.float32)
        points = unpack(self.zero_points, self.bits)[:, : self.scales.shape[1]]
        return points.astype(np.float32)[..., None]


def centre(bits: int) -> int:
    """Return what MatMulNBits takes from a value when it is given no zero points."""
    return {NIBBLE: 8, BYTE: 128}[bits]


def pack(codes: Raw, bits: int) -> Raw:
    """Return codes uint8 [..., an even number] as they are stored: two nibbles to a byte."""
    if bits == BYTE:
        return codes
    return codes[..., 0::2] | codes[..., 1::2] << np.uint8(NIBBLE)


def unpack(values: Raw, bits: int) -> Raw:
    """Return the codes of stored values, uint8 [..., as many as there are]."""
    if bits == BYTE:
        return values
    pairs = np.stack([values & np.uint8(15), values >> np.uint8(NIBBLE)], axis=-1)
    return pairs.reshape(*values.shape[:-1], -1)


def symmetric(weights: F32, *, bits: int, block: int) -> Packed:
    """Round floats [rows, columns] to blocks of `bits` without offsets or zero points."""
    blocks = weights.reshape(len(weights), -1, block)
    most = centre(bits) - 1
    scales = np.abs(blocks).max(axis=-1) / np.float32(most)
    safe = np.where(scales > 0, scales, np.float32(1))
    steps = np.rint(blocks / safe[..., None]).clip(-most, most)
    codes = (steps + centre(bits)).astype(np.uint8)
    return Packed(bits=bits, values=pack(codes, bits), scales=scales)
