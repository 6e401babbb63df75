"""Matrix products with quantized weights, their activations in one or two int8 terms.

MatMulNBits rounds activations to int8 per block before it multiplies. In two terms, what that
rounds off goes through the same product as further rows, and both results are added: activations
then have about 16 bits. Decode is bound by reading weights, which are read once for both terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

if TYPE_CHECKING:
    from edge_agent.importers.nodes import Nodes
    from edge_agent.modelstore.manifest import Quantization

# accuracy_level: int8 activations. In fp32 (level 0) an 8-bit product of one row takes 50 times as
# long on x86-64, since the weights are expanded to floats in every call.
_INT8_ACTIVATIONS = 4
# What MatMulNBits subtracts from 8-bit values when it is given no zero points.
_CENTRE = 128


def product(
    out: Nodes, quantization: Quantization, weight: str, array: str, output: str = ""
) -> str:
    """Add `array` [T, K] times `weight` [N, K] transposed, and return the name of it."""
    output = output or f"{weight}.out"
    if quantization.activation_terms == 1:
        return _multiply(out, quantization, weight, array, output)
    terms = out.node("Concat", [array, _rest(out, weight, array)], f"{weight}.terms", axis=0)
    both = _multiply(out, quantization, weight, terms, f"{weight}.products")
    halves = [f"{weight}.first", f"{weight}.second"]
    split = helper.make_node("Split", [both], halves, name=f"{weight}.split", num_outputs=2)
    out.nodes.append(split)
    return out.node("Add", halves, output)


def _rest(out: Nodes, weight: str, array: str) -> str:
    """Add what int8 blocks lose of `array`: itself less its product with the identity.

    The identity of one block is exact in 8 bits, so that product is the rounded array, by the very
    rounding that the product with the weights applies.
    """
    _, blocks, block = out.regions[f"{weight}.values"].shape
    identity = (np.eye(block) + _CENTRE).astype(np.uint8)[:, np.newaxis]
    arrays = [
        out.node("Reshape", [array, out.rows_of(block)], f"{weight}.activation_blocks"),
        out.constant("identity.values", identity),
        out.constant("identity.scales", np.ones((block, 1), np.float32)),
    ]
    attributes = {"K": block, "N": block, "bits": 8, "block_size": block}
    rounded = out.node(
        "MatMulNBits",
        arrays,
        f"{weight}.rounded",
        accuracy_level=_INT8_ACTIVATIONS,
        **attributes,
    )
    rows = out.node("Reshape", [rounded, out.rows_of(blocks * block)], f"{weight}.rounded_rows")
    return out.node("Sub", [array, rows], f"{weight}.rest")


def _multiply(out: Nodes, quantization: Quantization, weight: str, array: str, output: str) -> str:
    rows, blocks, block = out.regions[f"{weight}.values"].shape
    is_head = weight in {"embedding", "head"}
    arrays = [array, out.external(f"{weight}.values"), out.external(f"{weight}.scales")]
    if f"{weight}.zero_points" in out.regions:
        arrays.append(out.external(f"{weight}.zero_points"))
    return out.node(
        "MatMulNBits",
        arrays,
        output,
        K=blocks * block,
        N=rows,
        bits=quantization.head_bits if is_head else quantization.bits,
        block_size=quantization.head_block if is_head else quantization.block,
        accuracy_level=_INT8_ACTIVATIONS,
    )
