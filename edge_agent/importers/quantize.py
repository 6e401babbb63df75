"""Turns weights into the blocks MatMulNBits multiplies: 4 or 8 bits, 32 to a block, one scale each.

A weight is `scale * (value - centre)`, with centre 8 or 128, plus the `offset` of its block where
there is one. Offsets are multiplied apart, with the sums of the activations of each block, so that
blocks that are already quantized carry over exactly. Pure arithmetic on arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.importers.ggml_types import F32, Affine

BLOCK = 32
NIBBLE, BYTE = 4, 8  # bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows of blocks.

    `values` uint8 [rows, blocks, 32 * bits / 8], of two nibbles the low one first; `scales` and
    `offsets` float32 [rows, blocks].
    """

    bits: int
    values: NDArray[np.uint8]
    scales: F32
    offsets: F32 | None = None

    def floats(self) -> F32:
        """Return the weights, float32 [rows, blocks * 32]."""
        values = self.values
        if self.bits == NIBBLE:
            values = np.stack([values & 15, values >> 4], axis=-1).reshape(
                *self.scales.shape, BLOCK
            )
        weights = (values.astype(np.int16) - _centre(self.bits)) * self.scales[..., None]
        if self.offsets is not None:
            weights = weights + self.offsets[..., None]
        return weights.reshape(len(weights), -1)


def symmetric(weights: F32) -> Packed:
    """Round floats [rows, columns] to 255 steps around zero; the error is at most half a step."""
    blocks = weights.reshape(len(weights), -1, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    steps = np.rint(blocks / safe[..., None]).clip(-127, 127)
    values = (steps + _centre(BYTE)).astype(np.uint8)
    return Packed(bits=BYTE, values=values, scales=scales)


def from_affine(blocks: Affine, *, bits: int) -> Packed:
    """Carry over blocks `scale * q + offset`: the steps are kept, the weights are the same.

    With 4 bits, `q` must be in 0..15.
    """
    if bits == NIBBLE:
        values = (blocks.q[..., 0::2] | blocks.q[..., 1::2] << NIBBLE).astype(np.uint8)
        # The kernel takes 8 from every value; the offset gives it back.
        offsets = blocks.offset + np.float32(_centre(NIBBLE)) * blocks.scale
        return Packed(bits=bits, values=values, scales=blocks.scale, offsets=offsets)
    values = (blocks.q + _centre(BYTE)).astype(np.uint8)
    return Packed(bits=bits, values=values, scales=blocks.scale, offsets=blocks.offset)


def _centre(bits: int) -> int:
    """Return what MatMulNBits takes from a value when it is given no zero points."""
    return 1 << (bits - 1)
