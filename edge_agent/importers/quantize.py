"""Turns weights into the blocks MatMulNBits multiplies: 4 or 8 bits, one scale to a block.

A weight is `scale * (value - centre)`, plus the `offset` of its block where there is one. The
centre is 8 or 128, or the block's zero point where there are such. Pure arithmetic on arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edge_agent.importers.arrays import F32, Raw

NIBBLE, BYTE = 4, 8  # bits

# Which code the weight furthest from zero gets, in the scales that are tried: beyond the end it is
# clipped and the others are finer. 7 and 8, 127 and 128 are where other quantizers put it, so that
# what was quantized before comes back. 4 bits: within 0.5 % of the least root mean square error of
# 440 scales. 8 bits: a dozen would do for new weights; the others take a third off the error of
# weights that lay on a grid with offsets.
_REACHES = {
    NIBBLE: (8.0, 7.0, 7.5, 8.6, 9.5, 11.0),
    BYTE: (127.0, 128.0, *(float(reach) for reach in range(126, 104, -1))),
}
_REFINEMENTS = 2
# Small enough for the second-level cache, where it runs several times faster.
_CHUNK_WEIGHTS = 1 << 16
_LEAST_COUNT = 1e-3
_TINY = np.float32(1e-30)
_ANY_SCALE = np.float32(-1)  # of blocks that are all zeros


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


def widened(packed: Packed) -> Packed:
    """Return blocks of 4 bits as blocks of 8 bits that stand for the same weights, exactly."""
    codes = unpack(packed.values, packed.bits)
    if packed.zero_points is None:
        return replace(packed, bits=BYTE, values=codes + np.uint8(centre(BYTE) - centre(NIBBLE)))
    points = unpack(packed.zero_points, packed.bits)[:, : packed.scales.shape[1]]
    return replace(packed, bits=BYTE, values=codes, zero_points=points)


def symmetric(weights: F32, *, bits: int, block: int, importance: F32 | None = None) -> Packed:
    """Round floats [rows, columns] to blocks with the scales that make the least squared error.

    Errors of column j count `importance[j]` times (float32 [columns], not negative). Where
    weights are `scale * code` already, they come back. Columns must be whole blocks.
    """
    rows, columns = weights.shape
    across = columns // block
    values = np.empty((rows, across, block * bits // BYTE), np.uint8)
    scales = np.empty((rows, across), np.float32)
    step = max(1, _CHUNK_WEIGHTS // columns)
    for start in range(0, rows, step):
        some = weights[start : start + step].reshape(-1, block)
        counts = None if importance is None else _counts(importance, len(some), block)
        codes, chunk_scales = _fit(some, counts, bits)
        values[start : start + step] = pack(codes, bits).reshape(-1, *values.shape[1:])
        scales[start : start + step] = chunk_scales.reshape(-1, across)
    return Packed(bits=bits, values=values, scales=scales)


def _counts(importance: F32, num_blocks: int, block: int) -> F32:
    """Return how much each weight of a chunk counts, float32 [block, num_blocks], 1 on average."""
    mean = importance.mean(dtype=np.float64)
    if mean <= 0:
        return np.ones((block, num_blocks), np.float32)
    # What the calibration never met may still come: nothing counts for nothing.
    counts = np.maximum(importance / mean, _LEAST_COUNT).astype(np.float32).reshape(-1, block).T
    return np.tile(counts, num_blocks // counts.shape[1])


def _fit(blocks: F32, counts: F32 | None, bits: int) -> tuple[Raw, F32]:
    """Return the codes uint8 [blocks, block] and the scales float32 [blocks] of some blocks.

    The scale is signed, so that the weight furthest from zero meets the longer end of the codes.
    Tried are scales that put it at, inside and beyond that end; the best is refined by turns:
    nearest codes for the scale, then the scale of least squares for the codes, which is
    sum(weight * code) / sum(code * code).
    """
    # A block is a column, so that sums run along rows; and is at most one, so that none overflows.
    parts = np.ascontiguousarray(blocks.T)
    most, least = parts.max(axis=0), parts.min(axis=0)
    furthest = np.where(most > -least, most, least)
    furthest[furthest == 0] = 1  # a block of zeros
    parts /= furthest
    fit = _Fit(parts, counts, bits)
    best, most_explained = fit.scale(np.float32(-1 / _REACHES[bits][0]))
    for reach in _REACHES[bits][1:]:
        scale, explained = fit.scale(np.float32(-1 / reach))
        is_better = explained > most_explained
        np.copyto(best, scale, where=is_better)
        np.copyto(most_explained, explained, where=is_better)
    for _ in range(_REFINEMENTS):
        best, _ = fit.scale(np.where(best == 0, _ANY_SCALE, best))
    return fit.codes().T, best * furthest


class _Fit:
    """Parts float32 [block, blocks], the largest of each block 1, and the codes tried last."""

    def __init__(self, parts: F32, counts: F32 | None, bits: int) -> None:
        self._parts = parts
        self._counts = counts
        self._counted = parts if counts is None else parts * counts
        self._codes = np.empty_like(parts)
        self._centre = np.float32(centre(bits))

    def scale(self, scale: F32 | np.float32) -> tuple[F32, F32]:
        """Take the nearest codes for `scale`; return the best scale for them.

        And how much of the sum of squares it explains: the sum less the squared error.
        """
        codes = np.divide(self._parts, scale, out=self._codes)
        np.rint(codes, out=codes)
        np.clip(codes, -self._centre, self._centre - 1, out=codes)
        counted = codes if self._counts is None else codes * self._counts
        products = np.einsum("ij,ij->j", self._counted, codes)
        squares = np.einsum("ij,ij->j", counted, codes)
        np.maximum(squares, _TINY, out=squares)
        best = products / squares
        return best, best * products

    def codes(self) -> Raw:
        """Return the codes tried last as they are stored, uint8 [block, blocks]."""
        self._codes += self._centre
        return self._codes.astype(np.uint8)
