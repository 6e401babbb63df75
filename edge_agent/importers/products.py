"""Matrix products and row look-ups with weights of every kind.

`exact`: quantized weights are multiplied with all digits of the activations. MatMulNBits is fast
with activations rounded to int8 per block; so products go in two terms: what rounding takes off
goes through the same product as further rows, and both results are added. Activations then have
about 16 bits, and decode, which is bound by reading weights, still reads them once. 4-bit weights
can be multiplied in fp32 too, which is faster for many rows. `int8`: one term of int8 activations
for every quantized weight, the fastest there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from edge_agent.errors import ModelError
from edge_agent.importers.quantize import NIBBLE
from edge_agent.importers.stored import stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.importers.nodes import Nodes
    from edge_agent.importers.stored import Stored
    from edge_agent.modelstore.manifest import Activations

# Values of MatMulNBits' accuracy_level.
_FP32_ACTIVATIONS = 0
_INT8_ACTIVATIONS = 4


class Products:
    """Adds products to `out`; a weight's kind is derived from its arrays.

    Of `exact` products those with weights of `in_terms` bits go in two terms, the rest in fp32.
    """

    def __init__(self, out: Nodes, activations: Activations, *, in_terms: tuple[int, ...]) -> None:
        self._out = out
        self._is_exact = activations == "exact"
        self._in_terms = in_terms if self._is_exact else ()

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
        in_terms = kind.bits in self._in_terms
        blocks = self._in_blocks(kind, array) if in_terms or kind.has_offsets else ""
        if in_terms:
            self._multiply_in_terms(kind, blocks, scaled)
        else:
            self._multiply(kind, array, scaled)
        if kind.has_offsets:
            self._add_offsets(kind, blocks, scaled, output)
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
        is_fp32 = self._is_exact and kind.bits not in self._in_terms
        return self._out.node(
            "MatMulNBits",
            arrays,
            output,
            K=kind.columns,
            N=kind.rows,
            bits=kind.bits,
            block_size=kind.block,
            accuracy_level=_FP32_ACTIVATIONS if is_fp32 else _INT8_ACTIVATIONS,
        )

    def _multiply_in_terms(self, kind: Stored, blocks: str, output: str) -> None:
        name = kind.name
        both = self._out.node("Concat", [blocks, self._rest(kind, blocks)], f"{name}.both", axis=0)
        wide = self._out.rows_of(kind.columns)
        terms = self._out.node("Reshape", [both, wide], f"{name}.terms")
        products = self._multiply(kind, terms, f"{name}.products")
        halves = [f"{name}.first", f"{name}.second"]
        split = helper.make_node("Split", [products], halves, name=f"{name}.split", num_outputs=2)
        self._out.nodes.append(split)
        self._out.node("Add", halves, output)

    def _rest(self, kind: Stored, blocks: str) -> str:
        """Add what int8 blocks lose of `blocks`: themselves less their product with the identity.

        The identity of one block is exact in 4 and in 8 bits, so that product is the rounded
        array; in the bits of the weights it is rounded by the very kernel that multiplies them.
        """
        block, bits = kind.block, kind.bits
        arrays = [
            blocks,
            self._out.constant(f"identity.{block}.{bits}.values", _identity(block, bits)),
            self._out.constant(f"identity.{block}.scales", np.ones((block, 1), np.float32)),
        ]
        rounded = self._out.node(
            "MatMulNBits",
            arrays,
            f"{kind.name}.rounded",
            K=block,
            N=block,
            bits=bits,
            block_size=block,
            accuracy_level=_INT8_ACTIVATIONS,
        )
        return self._out.node("Sub", [blocks, rounded], f"{kind.name}.rest")

    def _add_offsets(self, kind: Stored, blocks: str, scaled: str, output: str) -> None:
        """Add the offset of each block of the weight times the sum of the activations it meets."""
        last = self._out.constant("last_axis", np.array([2], np.int64))
        sums = self._out.node(
            "ReduceSum", [blocks, last], f"{kind.name}.activation_sums", keepdims=0
        )
        self._out.node("Gemm", [sums, self._out.external(f"{kind.name}.offsets"), scaled], output)

    def _in_blocks(self, kind: Stored, array: str) -> str:
        """Add `array` [T, columns] as [T, blocks, block]."""
        shape = np.array([-1, kind.blocks, kind.block], np.int64)
        shape_of = self._out.constant(f"blocks_of.{kind.blocks}.{kind.block}", shape)
        return self._out.node("Reshape", [array, shape_of], f"{kind.name}.activation_blocks")


def _identity(block: int, bits: int) -> NDArray[np.uint8]:
    """Return the identity as MatMulNBits takes it without zero points: uint8 [block, 1, bytes]."""
    values: NDArray[np.uint8] = (np.eye(block) + (1 << bits - 1)).astype(np.uint8)
    if bits == NIBBLE:
        values = values[:, 0::2] | np.left_shift(values[:, 1::2], NIBBLE, dtype=np.uint8)
    return values[:, np.newaxis]
