"""Matrix products and row look-ups with weights of every kind.

`exact`: 4-bit weights are multiplied in fp32, which MatMulNBits does fast for them. For 8-bit
weights it is fast only with activations rounded to int8 per block; so they go in two terms: what
rounding takes off goes through the same product as further rows, and both results are added.
Activations then have about 16 bits, and decode, which is bound by reading weights, still reads
them once. `int8`: one term of int8 activations for every quantized weight, the fastest there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from onnx import helper

from edge_agent.errors import ModelError
from edge_agent.importers.quantize import BYTE
from edge_agent.importers.stored import stored

if TYPE_CHECKING:
    from edge_agent.importers.nodes import Nodes
    from edge_agent.importers.stored import Stored

Activations = Literal["exact", "int8"]

# Values of MatMulNBits' accuracy_level.
_FP32_ACTIVATIONS = 0
_INT8_ACTIVATIONS = 4
# What MatMulNBits subtracts from 8-bit values when it is given no zero points.
_CENTRE = 128


class Products:
    """Adds products to `out`; a weight's kind is derived from its arrays."""

    def __init__(self, out: Nodes, activations: Activations) -> None:
        self._out = out
        self._in_terms = activations == "exact"

    def product(self, weight: str, array: str, *, columns: int, output: str = "") -> str:
        """Add `array` [T, columns] times `weight` [N, columns] transposed; return its name.

        Raises:
            ModelError: the arrays of `weight` are missing or contradict `columns`.
        """
        kind = stored(self._out.regions, weight, columns=columns)
        output = output or f"{weight}.out"
        if kind.is_float:
            arrays = [array, self._out.external(f"{weight}.floats")]
            return self._out.node("Gemm", arrays, output, transB=1)
        scaled = f"{weight}.scaled" if kind.has_offsets else output
        if kind.bits == BYTE and self._in_terms:
            self._multiply_in_terms(kind, array, scaled)
        else:
            self._multiply(kind, array, scaled)
        if kind.has_offsets:
            self._add_offsets(kind, array, scaled, output)
        return output

    def look_up(self, weight: str, ids: str, *, columns: int, output: str) -> str:
        """Add the rows `ids` int64 [T] of `weight`, float32 [T, columns]; return its name.

        Raises:
            ModelError: as `product`, or its blocks have offsets, for which the op has no place.
        """
        kind = stored(self._out.regions, weight, columns=columns)
        if kind.is_float:
            return self._out.node("Gather", [self._out.external(f"{weight}.floats"), ids], output)
        if kind.has_offsets:
            msg = f"{weight}: rows of blocks with offsets cannot be looked up"
            raise ModelError(msg)
        # Rows are read where they lie in the file: the product's own array, seen as [rows, bytes].
        arrays = [self._out.external_rows(f"{weight}.values"), ids]
        arrays.append(self._out.external(f"{weight}.scales"))
        if kind.has_zero_points:
            arrays.append(self._out.external(f"{weight}.zero_points"))
        return self._out.node(
            "GatherBlockQuantized",
            arrays,
            output,
            bits=kind.bits,
            block_size=kind.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def _multiply(self, kind: Stored, array: str, output: str) -> str:
        weight = kind.name
        arrays = [array, self._out.external(f"{weight}.values")]
        arrays.append(self._out.external(f"{weight}.scales"))
        if kind.has_zero_points:
            arrays.append(self._out.external(f"{weight}.zero_points"))
        exact = self._in_terms and kind.bits < BYTE
        return self._out.node(
            "MatMulNBits",
            arrays,
            output,
            K=kind.columns,
            N=kind.rows,
            bits=kind.bits,
            block_size=kind.block,
            accuracy_level=_FP32_ACTIVATIONS if exact else _INT8_ACTIVATIONS,
        )

    def _multiply_in_terms(self, kind: Stored, array: str, output: str) -> None:
        name = kind.name
        terms = self._out.node("Concat", [array, self._rest(kind, array)], f"{name}.terms", axis=0)
        both = self._multiply(kind, terms, f"{name}.products")
        halves = [f"{name}.first", f"{name}.second"]
        split = helper.make_node("Split", [both], halves, name=f"{name}.split", num_outputs=2)
        self._out.nodes.append(split)
        self._out.node("Add", halves, output)

    def _rest(self, kind: Stored, array: str) -> str:
        """Add what int8 blocks lose of `array`: itself less its product with the identity.

        The identity of one block is exact in 8 bits, so that product is the rounded array, by the
        very rounding that the product with the weights applies.
        """
        block = kind.block
        identity = (np.eye(block) + _CENTRE).astype(np.uint8)[:, np.newaxis]
        arrays = [
            self._out.node(
                "Reshape", [array, self._out.rows_of(block)], f"{kind.name}.int8_blocks"
            ),
            self._out.constant(f"identity.{block}.values", identity),
            self._out.constant(f"identity.{block}.scales", np.ones((block, 1), np.float32)),
        ]
        rounded = self._out.node(
            "MatMulNBits",
            arrays,
            f"{kind.name}.rounded",
            K=block,
            N=block,
            bits=BYTE,
            block_size=block,
            accuracy_level=_INT8_ACTIVATIONS,
        )
        wide = self._out.rows_of(kind.columns)
        rows = self._out.node("Reshape", [rounded, wide], f"{kind.name}.rounded_rows")
        return self._out.node("Sub", [array, rows], f"{kind.name}.rest")

    def _add_offsets(self, kind: Stored, array: str, scaled: str, output: str) -> None:
        """Add the offset of each block of the weight times the sum of the activations it meets."""
        shape = np.array([-1, kind.blocks, kind.block], np.int64)
        blocks = self._out.node(
            "Reshape",
            [array, self._out.constant(f"blocks_of.{kind.blocks}.{kind.block}", shape)],
            f"{kind.name}.activation_blocks",
        )
        last = self._out.constant("last_axis", np.array([2], np.int64))
        sums = self._out.node(
            "ReduceSum", [blocks, last], f"{kind.name}.activation_sums", keepdims=0
        )
        self._out.node("Gemm", [sums, self._out.external(f"{kind.name}.offsets"), scaled], output)
