"""How a weight lies in the weights file, read from the shapes of its arrays alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.importers.precision import FLOAT_BITS
from edge_agent.importers.quantize import BYTE, NIBBLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.weights import Region

# What the kernels of MatMulNBits and GatherBlockQuantized take.
_BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One weight [rows, columns]; 32 `bits` are floats, which have one block per row."""

    name: str
    rows: int
    columns: int
    bits: int
    block: int
    has_offsets: bool = False
    has_zero_points: bool = False

    @property
    def is_float(self) -> bool:
        """Whether the weight is stored as floats."""
        return self.bits == FLOAT_BITS

    @property
    def blocks(self) -> int:
        """Blocks to a row."""
        return self.columns // self.block


def stored(regions: Mapping[str, Region], weight: str, *, columns: int) -> Stored:
    """Return how `weight` lies in `regions`: `.floats`, or `.values` and what belongs to them.

    Raises:
        ModelError: the weight is not there, or its arrays do not fit `columns` or each other.
    """
    if floats := regions.get(f"{weight}.floats"):
        if floats.shape[1:] != (columns,):
            raise _misfit(weight, "floats", floats.shape, columns)
        rows = floats.shape[0]
        return Stored(name=weight, rows=rows, columns=columns, bits=FLOAT_BITS, block=columns)
    values = regions.get(f"{weight}.values")
    if values is None:
        msg = f"{weight}: neither floats nor values are in the weights file"
        raise ModelError(msg)
    rows, blocks, blob = values.shape
    block = columns // max(blocks, 1)
    bits = blob * 8 // max(block, 1)
    if block * blocks != columns or block not in _BLOCKS or blob * 8 != bits * block:
        raise _misfit(weight, "values", values.shape, columns)
    if bits not in {NIBBLE, BYTE}:
        raise _misfit(weight, "values", values.shape, columns)
    found = Stored(
        name=weight,
        rows=rows,
        columns=columns,
        bits=bits,
        block=block,
        has_offsets=f"{weight}.offsets" in regions,
        has_zero_points=f"{weight}.zero_points" in regions,
    )
    _check_companions(regions, found)
    return found


def _check_companions(regions: Mapping[str, Region], weight: Stored) -> None:
    expected = {"scales": (weight.rows, weight.blocks)}
    if weight.has_offsets:
        expected["offsets"] = (weight.blocks, weight.rows)
    if weight.has_zero_points:
        expected["zero_points"] = (weight.rows, -(-weight.blocks * weight.bits // 8))
    for kind, shape in expected.items():
        region = regions.get(f"{weight.name}.{kind}")
        if region is None or region.shape != shape:
            is_there = "missing" if region is None else f"{list(region.shape)}"
            msg = f"{weight.name}.{kind}: {is_there}, expected {list(shape)}"
            raise ModelError(msg)


def _misfit(weight: str, kind: str, shape: tuple[int, ...], columns: int) -> ModelError:
    return ModelError(
        f"{weight}.{kind}: {list(shape)} are no 4-bit, 8-bit or float rows of {columns} weights"
    )
