"""Matrix products with quantized weights, activations kept well beyond 8 bits.

4-bit weights are multiplied in fp32, which MatMulNBits does fast for them. For 8-bit weights it is
fast only with activations rounded to int8 per block; so they go in two terms: what rounding takes
off goes through the same product as further rows, and both results are added. Activations then have
about 16 bits, and decode, which is bound by reading weights, still reads them once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

if TYPE_CHECKING:
    from edge_agent.importers.nodes import Nodes
    from edge_agent.modelstore.manifest import Quantization

# Values of MatMulNBits' accuracy_level.
_FP32_ACTIVATIONS = 0
_INT8_ACTIVATIONS = 4
# What MatMulNBits subtracts from 8-bit values when it is given no zero points.
_CENTRE = 128
_BYTE = 8


def product(
    out: Nodes, quantization: Quantization, weight: str, array: str, output: str = ""
) -> str:
    """Add `array` [T, K] times `weight` [N, K] transposed, and return the name of it."""
    output = output or f"{weight}.out"
    has_offsets = f"{weight}.offsets" in out.regions
    scaled = f"{weight}.scaled" if has_offsets else output
    if _stored(out, quantization, weight).bits < _BYTE:
        _multiply(out, quantization, weight, array, scaled)
    else:
        _multiply_in_terms(out, quantization, weight, array, scaled)
    if has_offsets:
        _add_offsets(out, quantization, weight, array, scaled, output)
    return output


def _multiply_in_terms(
    out: Nodes, quantization: Quantization, weight: str, array: str, output: str
) -> None:
    if quantization.activation_terms == 1:
        _multiply(out, quantization, weight, array, output)
        return
    terms = out.node(
        "Concat", [array, _rest(out, quantization, weight, array)], f"{weight}.terms", axis=0
    )
    both = _multiply(out, quantization, weight, terms, f"{weight}.products")
    halves = [f"{weight}.first", f"{weight}.second"]
    split = helper.make_node("Split", [both], halves, name=f"{weight}.split", num_outputs=2)
    out.nodes.append(split)
    out.node("Add", halves, output)


def _add_offsets(
    out: Nodes, quantization: Quantization, weight: str, array: str, scaled: str, output: str
) -> None:
    """Add the offset of each block of the weight times the sum of the activations it meets."""
    stored = _stored(out, quantization, weight)
    shape = np.array([-1, stored.blocks, stored.block], np.int64)
    blocks = out.node(
        "Reshape",
        [array, out.constant(f"blocks_of.{stored.blocks}.{stored.block}", shape)],
        f"{weight}.activation_blocks",
    )
    last = out.constant("last_axis", np.array([2], np.int64))
    sums = out.node("ReduceSum", [blocks, last], f"{weight}.activation_sums", keepdims=0)
    out.node("Gemm", [sums, out.external(f"{weight}.offsets"), scaled], output)


def _rest(out: Nodes, quantization: Quantization, weight: str, array: str) -> str:
    """Add what int8 blocks lose of `array`: itself less its product with the identity.

    The identity of one block is exact in 8 bits, so that product is the rounded array, by the very
    rounding that the product with the weights applies.
    """
    stored = _stored(out, quantization, weight)
    identity = (np.eye(stored.block) + _CENTRE).astype(np.uint8)[:, np.newaxis]
    arrays = [
        out.node("Reshape", [array, out.rows_of(stored.block)], f"{weight}.int8_blocks"),
        out.constant("identity.values", identity),
        out.constant("identity.scales", np.ones((stored.block, 1), np.float32)),
    ]
    rounded = out.node(
        "MatMulNBits",
        arrays,
        f"{weight}.rounded",
        K=stored.block,
        N=stored.block,
        bits=_BYTE,
        block_size=stored.block,
        accuracy_level=_INT8_ACTIVATIONS,
    )
    wide = out.rows_of(stored.blocks * stored.block)
    rows = out.node("Reshape", [rounded, wide], f"{weight}.rounded_rows")
    return out.node("Sub", [array, rows], f"{weight}.rest")


def _multiply(out: Nodes, quantization: Quantization, weight: str, array: str, output: str) -> str:
    stored = _stored(out, quantization, weight)
    return out.node(
        "MatMulNBits",
        [array, out.external(f"{weight}.values"), out.external(f"{weight}.scales")],
        output,
        K=stored.blocks * stored.block,
        N=stored.rows,
        bits=stored.bits,
        block_size=stored.block,
        accuracy_level=_INT8_ACTIVATIONS if stored.bits == _BYTE else _FP32_ACTIVATIONS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """How a weight lies in the file."""

    rows: int
    blocks: int
    block: int
    bits: int


def _stored(out: Nodes, quantization: Quantization, weight: str) -> _Stored:
    rows, blocks, blob = out.regions[f"{weight}.values"].shape
    is_head = weight in {"embedding", "head"}
    block = quantization.head_block if is_head else quantization.block
    return _Stored(rows=rows, blocks=blocks, block=block, bits=blob * 8 // block)
