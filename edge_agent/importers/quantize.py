"""Turns weights into the blocks MatMulNBits multiplies fast: uint8, 32 to a block, one scale each.

A weight is `scale * (value - zero_point)`. Pure arithmetic on arrays. Two ways in: `from_affine`
keeps the steps of weights that are already quantized, `symmetric` rounds floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.importers.ggml_types import F32, Affine

BITS = 8
BLOCK = 32
# What MatMulNBits subtracts from 8-bit values when it is given no zero points.
CENTRE = 128
TOP = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows of 8-bit blocks.

    `values` uint8 [rows, blocks, 32], `scales` float32 [rows, blocks], `zero_points` uint8
    [rows, blocks] or None where all are 128.
    """

    values: NDArray[np.uint8]
    scales: F32
    zero_points: NDArray[np.uint8] | None

    def floats(self) -> F32:
        """Return the weights, float32 [rows, blocks * 32]."""
        steps = self.values.astype(np.int16) - self.centred().astype(np.int16)[..., None]
        return (steps * self.scales[..., None]).reshape(len(steps), -1)

    def centred(self) -> NDArray[np.uint8]:
        """Return the zero points, written out where they are implied."""
        if self.zero_points is not None:
            return self.zero_points
        return np.full(self.scales.shape, CENTRE, np.uint8)


def symmetric(weights: F32) -> Packed:
    """Round floats [rows, columns] to 255 steps around zero; the error is at most half a step."""
    blocks = weights.reshape(len(weights), -1, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    steps = np.rint(blocks / safe[..., None]).clip(-127, 127)
    return Packed(values=(steps + CENTRE).astype(np.uint8), scales=scales, zero_points=None)


def from_affine(blocks: Affine) -> Packed:
    """Keep the steps of blocks `scale * q + offset`.

    Blocks without offsets carry over exactly. With offsets, `value = k * q + shift` and the step is
    `scale / k`: the slope stays exact and only the offset is rounded to a whole number of steps,
    with the `k` of each block that rounds it least. Blocks whose offset no uint8 zero point can
    reach are rounded as floats, to at most 1/510 of their largest weight.
    """
    if not blocks.offset.any():
        exact = (blocks.q + CENTRE).astype(np.uint8)
        return Packed(values=exact, scales=blocks.scale, zero_points=None)
    factor, steps = _finest(blocks)
    reached = factor > 0
    values = factor[..., None] * blocks.q + np.maximum(steps, 0)[..., None]
    rest = _ranged(blocks.floats())
    return Packed(
        values=np.where(reached[..., None], values, rest.values).astype(np.uint8),
        scales=np.where(reached, blocks.scale / np.maximum(factor, 1), rest.scales),
        zero_points=np.where(reached, np.maximum(-steps, 0), rest.centred()).astype(np.uint8),
    )


def join(parts: list[Packed]) -> Packed:
    """Return the rows of all `parts`, one under the other."""
    same = all(part.zero_points is None for part in parts)
    return Packed(
        values=np.concatenate([part.values for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        zero_points=None if same else np.concatenate([part.centred() for part in parts]),
    )


def _finest(blocks: Affine) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return per block the steps to each step of `q`, 0 if unreachable, and those of the offset."""
    scale = blocks.scale.astype(np.float64)
    ratio = np.divide(blocks.offset, scale, out=np.full_like(scale, np.inf), where=scale != 0)
    best_error = np.full(ratio.shape, np.inf)
    factor = np.zeros(ratio.shape, np.int16)
    steps = np.zeros(ratio.shape, np.int16)
    for k in range(1, TOP // blocks.top + 1):
        exact = ratio * k
        # Both the value of q = 0 and the zero point must be in 0..255, the value of q = top too.
        reached = (exact >= -TOP) & (exact <= TOP - k * blocks.top)
        whole = np.rint(np.where(reached, exact, 0))
        error = np.where(reached, np.abs(exact - whole) / k, np.inf)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        factor = np.where(better, k, factor).astype(np.int16)
        steps = np.where(better, whole, steps).astype(np.int16)
    return factor, steps


def _ranged(weights: F32) -> Packed:
    """Round floats [rows, columns] to 255 steps from the least to the greatest of them and zero."""
    blocks = weights.reshape(len(weights), -1, BLOCK)
    low = np.minimum(blocks.min(axis=-1), 0)
    scales = (np.maximum(blocks.max(axis=-1), 0) - low) / np.float32(TOP)
    safe = np.where(scales > 0, scales, np.float32(1))
    zero_points = np.rint(-low / safe)
    values = np.rint(blocks / safe[..., None]) + zero_points[..., None]
    return Packed(
        values=values.clip(0, TOP).astype(np.uint8),
        scales=scales,
        zero_points=zero_points.astype(np.uint8),
    )
