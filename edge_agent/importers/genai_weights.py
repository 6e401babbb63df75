"""The weights that nodes of an onnxruntime-genai graph multiply by: blocks, or floats either way.

Numbers are checked against each other here, so that whoever reads rows later need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.importers.genai_tensors import refuse

if TYPE_CHECKING:
    from edge_agent.importers.genai_graph import Graph, Node
    from edge_agent.importers.genai_tensors import Tensor

PRODUCTS = ("MatMulNBits", "MatMul")
BITS = (4, 8)
BLOCKS = (16, 32, 64, 128, 256)

_MAX_WIDTH = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeight:
    """Rows of blocks as MatMulNBits has them.

    `values` hold ceil(columns / block) blocks to a row, of two nibbles the low one first; `scales`
    one number to a block; `zero_points` one code to a block, packed as values are.
    """

    rows: int
    columns: int
    bits: int
    block: int
    values: Tensor
    scales: Tensor
    zero_points: Tensor | None

    @property
    def blocks(self) -> int:
        """Blocks to a row; the last may be only partly filled."""
        return -(-self.columns // self.block)

    @property
    def row_bytes(self) -> int:
        """Bytes of values to a row."""
        return self.blocks * self.block * self.bits // 8

    @property
    def zero_point_bytes(self) -> int:
        """Bytes of zero points to a row."""
        return -(-self.blocks * self.bits // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatWeight:
    """Floats [rows, columns], or as MatMul has them [columns, rows] if `is_transposed`."""

    tensor: Tensor
    is_transposed: bool

    @property
    def rows(self) -> int:
        """Rows of the product."""
        return self.tensor.shape[1 if self.is_transposed else 0]

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.tensor.shape[0 if self.is_transposed else 1]


Weight = BlockWeight | FloatWeight


def product(graph: Graph, value: str) -> tuple[Weight, str]:
    """Return the weight whose product makes `value`, and the value that it is multiplied with.

    Raises:
        ModelError: `value` is no plain product (a bias, an adapter, …), or its weight is in a form
            that is not read.
    """
    node = graph.claim(graph.behind_casts(value), *PRODUCTS)
    read = _product_of_blocks if node.op == "MatMulNBits" else _product_of_floats
    return read(graph, node), graph.behind_casts(node.input(0))


def products(graph: Graph, user: Node, *values: str) -> tuple[tuple[Weight, ...], str]:
    """Return the weights whose products make `values`, inputs of `user`, and what they multiply.

    Raises:
        ModelError: as `product`, or they are not products with one and the same value.
    """
    found = [product(graph, value) for value in values]
    sources = {source for _, source in found}
    if len(sources) > 1:
        user.refuse(f"its parts are made of different values: {', '.join(sorted(sources))}")
    return tuple(weight for weight, _ in found), sources.pop()


def blocks_of_lookup(graph: Graph, node: Node) -> BlockWeight:
    """Return the weight that a GatherBlockQuantized looks rows up in.

    Raises:
        ModelError: in another layout than rows along the last axis, or its sizes contradict.
    """
    node.has_only(inputs=4, attributes=("bits", "block_size", "gather_axis", "quantize_axis"))
    if node.integer("gather_axis", 0) != 0 or node.integer("quantize_axis", 1) != 1:
        node.refuse("looks up along other axes than rows of blocks")
    name = node.input(0)
    if graph.op(name) == "Reshape":  # the head's values, in two dimensions
        reshape = graph.claim(name, "Reshape")
        shape = graph.integers(reshape.input(1), reshape)
        name = reshape.input(0)
    else:
        shape = list(graph.weight(name, node).shape)
    bits = node.integer("bits", 4)
    if len(shape) != 2 or bits not in BITS:  # noqa: PLR2004  # rows and bytes
        node.refuse(f"looks up in {shape} bytes of {bits}-bit values")
    names = (name, node.input(2), node.input(3))
    return _blocks(graph, node, names, rows=shape[0], columns=shape[1] * 8 // bits)


def _product_of_blocks(graph: Graph, node: Node) -> BlockWeight:
    known = ("K", "N", "accuracy_level", "bits", "block_size")
    node.has_only(inputs=4, attributes=known)
    names = (node.input(1), node.input(2), node.input(3))
    return _blocks(graph, node, names, rows=node.integer("N"), columns=node.integer("K"))


def _blocks(
    graph: Graph, node: Node, names: tuple[str, str, str], *, rows: int, columns: int
) -> BlockWeight:
    bits, block = node.integer("bits", 4), node.integer("block_size")
    if bits not in BITS or block not in BLOCKS:
        node.refuse(f"{bits} bits in blocks of {block}; this version reads {BITS} and {BLOCKS}")
    if not (1 <= rows <= _MAX_WIDTH and 1 <= columns <= _MAX_WIDTH):
        node.refuse(f"a weight of {rows} x {columns}")
    values, scales, zero_points = names
    weight = BlockWeight(
        rows=rows,
        columns=columns,
        bits=bits,
        block=block,
        values=graph.weight(values, node),
        scales=graph.weight(scales, node),
        zero_points=graph.weight(zero_points, node) if zero_points else None,
    )
    _check_bytes(weight.values, rows * weight.row_bytes)
    if not weight.scales.is_float or weight.scales.numbers != rows * weight.blocks:
        problem = f"{list(weight.scales.shape)} of {weight.scales.dtype}, expected a float for each"
        raise refuse(weight.scales.name, f"{problem} of {rows} x {weight.blocks} blocks")
    if weight.zero_points is not None:
        _check_bytes(weight.zero_points, rows * weight.zero_point_bytes)
    return weight


def _check_bytes(tensor: Tensor, expected: int) -> None:
    # Any number of dimensions: builders of different age write one, two or three.
    if tensor.dtype != "UINT8" or tensor.numbers != expected:
        problem = f"{list(tensor.shape)} of {tensor.dtype}, expected {expected} of UINT8"
        raise refuse(tensor.name, problem)


def _product_of_floats(graph: Graph, node: Node) -> FloatWeight:
    name = node.input(1)
    if graph.op(name):
        # Blocks along the columns of a matrix that is stored the other way round (QDQ).
        node.refuse(f"its weight is made by {graph.op(name)}, which this version does not read")
    return floats(graph, name, node, is_transposed=True)


def floats(graph: Graph, name: str, user: Node, *, is_transposed: bool) -> FloatWeight:
    """Return the stored matrix `name` of floats that `user` reads.

    Raises:
        ModelError: not stored, no matrix, or not of floats.
    """
    tensor = graph.weight(name, user)
    if not tensor.is_float or len(tensor.shape) != 2 or not tensor.numbers:  # noqa: PLR2004
        raise refuse(name, f"{list(tensor.shape)} of {tensor.dtype} are no matrix of floats")
    return FloatWeight(tensor=tensor, is_transposed=is_transposed)
