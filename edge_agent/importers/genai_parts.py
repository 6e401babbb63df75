"""Rows of the weights of an onnxruntime-genai package, as the compiler asks for them.

Everything is read when asked for, and only that; half-precision scales are widened, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from edge_agent.importers.genai_tensors import refuse
from edge_agent.importers.genai_weights import BlockWeight
from edge_agent.importers.quantize import Packed
from edge_agent.importers.source import Blocks

if TYPE_CHECKING:
    from edge_agent.importers.arrays import F32, Raw
    from edge_agent.importers.genai_tensors import Tensor
    from edge_agent.importers.genai_weights import FloatWeight, Weight
    from edge_agent.importers.source import Part


def part(weight: Weight) -> Part:
    """Return the rows of `weight`."""
    if isinstance(weight, BlockWeight):
        return BlockPart(weight=weight)
    if weight.is_transposed:
        return TransposedPart(weight=weight)
    return FloatPart(tensor=weight.tensor, rows=weight.rows, columns=weight.columns)


def vector(tensor: Tensor) -> Part:
    """Return `tensor` as one row."""
    return FloatPart(tensor=tensor, rows=1, columns=tensor.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPart:
    """Rows of blocks; they are carried over where no block is partly filled."""

    weight: BlockWeight

    @property
    def name(self) -> str:
        """The name of the values, for errors."""
        return self.weight.values.name

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.weight.rows

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.weight.columns

    @property
    def blocks(self) -> Blocks | None:
        """How its blocks are carried over; None where the last of a row is partly filled."""
        if self.weight.columns % self.weight.block:
            return None
        return Blocks(
            bits=self.weight.bits,
            block=self.weight.block,
            has_zero_points=self.weight.zero_points is not None,
        )

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32 [stop - start, columns].

        Raises:
            ModelError: the rows hold infinity or NaN, or cannot be read.
        """
        with np.errstate(over="ignore"):  # looked for below
            rows = self.packed(start, stop).floats()[:, : self.columns]
        if not np.isfinite(rows).all():
            raise refuse(self.weight.scales.name, "too large: a weight is infinite")
        return rows

    def packed(self, start: int, stop: int) -> Packed:
        """Return rows [start, stop) exactly as stored, the filling of a last block included.

        Raises:
            ModelError: a scale is infinite or NaN, or the rows cannot be read.
        """
        weight, count = self.weight, stop - start
        scales = weight.scales.floats(start * weight.blocks, count * weight.blocks)
        zero_points = None
        if weight.zero_points is not None:
            zero_points = _bytes(weight.zero_points, start, count, weight.zero_point_bytes)
        values = _bytes(weight.values, start, count, weight.row_bytes)
        return Packed(
            bits=weight.bits,
            values=values.reshape(count, weight.blocks, -1),
            scales=scales.reshape(count, weight.blocks),
            zero_points=zero_points,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatPart:
    """Rows of floats."""

    tensor: Tensor
    rows: int
    columns: int
    blocks: None = None

    @property
    def name(self) -> str:
        """The tensor's name, for errors."""
        return self.tensor.name

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32 [stop - start, columns].

        Raises:
            ModelError: the rows hold infinity or NaN, or cannot be read.
        """
        numbers = self.tensor.floats(start * self.columns, (stop - start) * self.columns)
        return numbers.reshape(stop - start, self.columns)

    def packed(self, start: int, stop: int) -> NoReturn:
        """Raise ModelError: there are no blocks."""
        raise refuse(self.name, f"rows {start} to {stop} are floats, not blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransposedPart:
    """Rows of floats that are stored as columns."""

    weight: FloatWeight
    blocks: None = None

    @property
    def name(self) -> str:
        """The tensor's name, for errors."""
        return self.weight.tensor.name

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.weight.rows

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.weight.columns

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32 [stop - start, columns], a strip of each column.

        Raises:
            ModelError: the rows hold infinity or NaN, or cannot be read.
        """
        count, tensor = stop - start, self.weight.tensor
        columns = np.empty((self.columns, count), np.float32)
        for index in range(self.columns):
            columns[index] = tensor.floats(index * self.rows + start, count)
        return np.ascontiguousarray(columns.T)

    def packed(self, start: int, stop: int) -> NoReturn:
        """Raise ModelError: there are no blocks."""
        raise refuse(self.name, f"rows {start} to {stop} are floats, not blocks")


def _bytes(tensor: Tensor, start: int, count: int, row_bytes: int) -> Raw:
    raw = tensor.read(start * row_bytes, count * row_bytes)
    return np.frombuffer(raw, np.uint8).reshape(count, row_bytes)
