"""Builds the decoder graph: packed tokens in, logits of chosen tokens out, weights kept outside.

All real tokens of a step are concatenated to [T]. The matrix products see no padding; `pad_idx`
and `unpad_idx` lay tokens out as [B, S] around attention only, whose `query_seqlens` carries rows
of different lengths. What the last layer does after attention it does for tokens of `logit_idx`
alone, which in a prompt are one or none: with 32 layers that saves prefill 2.6 % of its products.
Knows array names and places, never the numbers in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from edge_agent.engine.kv_cache import KvDtype
from edge_agent.errors import ModelError
from edge_agent.importers.branches import by_tokens
from edge_agent.importers.chunk_attention import ChunkAttention, chunk_inputs, chunk_outputs
from edge_agent.importers.nodes import MICROSOFT, Nodes
from edge_agent.importers.products import Products
from edge_agent.importers.quantize import BYTE, NIBBLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.manifest import Activations, Rope, Shape

__all__ = ["KvDtype", "Plan", "decoder"]

_OPSET = 21
_IR_VERSION = 10
# Rows of a step whose 4-bit products go in two int8 terms: against the product in fp32, which
# unpacks all weights for more than one row, 1.15 times as fast with 1, 1.85 with 2, 1.45 with 4,
# 1.1 with 8; with 16 it is 0.9 and with 128 0.6 (measured: x86-64 with VNNI, blocks of 32).
_MOST_IN_TERMS = 12
# The kernel's vectors are 8 wide, and it rotates pairs.
_ROTATION_STEP = 16

# What the cache stores.
_STORED = {
    KvDtype.FP32: TensorProto.FLOAT,
    KvDtype.FP16: TensorProto.FLOAT16,
    KvDtype.INT8: TensorProto.INT8,
}
# What attention computes in: queries, and the cos and sin tables.
_COMPUTED = {
    KvDtype.FP32: TensorProto.FLOAT,
    KvDtype.FP16: TensorProto.FLOAT16,
    KvDtype.INT8: TensorProto.FLOAT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the graph depends on beside the places and kinds of the weights."""

    shape: Shape
    rope: Rope
    activations: Activations
    kv_dtype: KvDtype


def decoder(plan: Plan, regions: Mapping[str, Region]) -> ModelProto:
    """Return the decoder whose weights lie in `regions` of the weights file.

    Weights: `embedding`, `layers.N.{qkv,o,gate_up,down}` and, if not tied, `head`, of any kinds.
    Floats are `.floats` float32 [rows, columns]. Blocks are `.values` uint8 [rows, blocks,
    block * bits / 8] and `.scales` float32 [rows, blocks], with `.offsets` float32 [blocks, rows]
    or `.zero_points` uint8 [rows, ceil(blocks * bits / 8)] if they have them.
    Vectors: `layers.N.{attn_norm,ffn_norm}` and `norm`, float32 [hidden].

    Raises:
        ModelError: an array is missing or does not fit `plan.shape`, or attention cannot rotate
            `plan.rope.dims`.
    """
    _check_rotation(plan)
    if plan.activations == "int8":
        return _whole(plan, regions, ())
    few, many = (_whole(plan, regions, bits) for bits in ((NIBBLE, BYTE), (BYTE,)))
    if few.graph == many.graph:
        return few
    return by_tokens(few, many, most_tokens=_MOST_IN_TERMS)


def _whole(plan: Plan, regions: Mapping[str, Region], in_terms: tuple[int, ...]) -> ModelProto:
    out = Nodes(regions)
    builder = _Builder(plan, out, in_terms)
    builder.embed()
    for layer in range(plan.shape.layers):
        builder.layer(layer)
    builder.finish()
    graph = helper.make_graph(
        out.nodes,
        "decoder",
        _inputs(plan),
        _outputs(plan),
        initializer=out.initializers,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _check_rotation(plan: Plan) -> None:
    dims, head_dim = plan.rope.dims, plan.shape.head_dim
    if dims % _ROTATION_STEP or dims > head_dim:
        msg = (
            f"rope.dims: {dims} of {head_dim} dimensions of a head are rotated; the attention"
            f" kernel takes multiples of {_ROTATION_STEP} up to all"
        )
        raise ModelError(msg)


def _inputs(plan: Plan) -> list[ValueInfoProto]:
    int32, int64 = TensorProto.INT32, TensorProto.INT64
    element = _COMPUTED[plan.kv_dtype]
    return [
        _value("input_ids", int64, ["T"]),
        _value("pad_idx", int64, ["B", "S"]),
        _value("unpad_idx", int64, ["T"]),
        _value("seqlens_k", int32, ["B"]),
        _value("query_seqlens", int32, ["B"]),
        _value("total_len", int32, []),
        _value("position_ids", int64, ["B", "S"]),
        _value("cos", element, ["rows", plan.rope.dims // 2]),
        _value("sin", element, ["rows", plan.rope.dims // 2]),
        _value("logit_idx", int64, ["R"]),
        *_caches(plan, "past"),
        *_scales(plan),
        *(chunk_inputs() if plan.kv_dtype is KvDtype.INT8 else ()),
    ]


def _outputs(plan: Plan) -> list[ValueInfoProto]:
    logits = _value("logits", TensorProto.FLOAT, ["R", plan.shape.vocab])
    chunk = chunk_outputs(plan.shape) if plan.kv_dtype is KvDtype.INT8 else []
    return [logits, *_caches(plan, "present"), *chunk]


def _caches(plan: Plan, when: str) -> list[ValueInfoProto]:
    dims = ["B", plan.shape.kv_heads, "C", plan.shape.head_dim]
    element = _STORED[plan.kv_dtype]
    names = [f"{when}.{layer}.{side}" for layer in range(plan.shape.layers) for side in "kv"]
    return [_value(name, element, dims) for name in names]


def _scales(plan: Plan) -> list[ValueInfoProto]:
    if plan.kv_dtype is not KvDtype.INT8:
        return []
    dims = [1, plan.shape.kv_heads, 1, plan.shape.head_dim]
    names = [f"{side}_scale.{layer}" for layer in range(plan.shape.layers) for side in "kv"]
    return [_value(name, TensorProto.FLOAT, dims) for name in names]


def _value(name: str, element: int, dims: list[Any]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, dims)


class _Builder:
    """Adds nodes in order; `_x` is the normed input of the next product, `_sum` the residual."""

    def __init__(self, plan: Plan, out: Nodes, in_terms: tuple[int, ...]) -> None:
        self._out = out
        self._plan = plan
        self._products = Products(out, plan.activations, in_terms=in_terms)
        is_int8 = plan.kv_dtype is KvDtype.INT8
        self._chunk = ChunkAttention(out, plan.shape) if is_int8 else None
        self._places = self._unpad_places() if self._chunk is None else ""
        self._x = self._sum = ""

    def _unpad_places(self) -> str:
        """Add row and place in it of each packed token, int64 [T, 2], for all layers."""
        out, column_of = self._out, "unpad.shape"
        out.constant(column_of, np.array([-1, 1], np.int64))
        column = out.node("Reshape", ["unpad_idx", column_of], "unpad.column")
        width = out.node("Shape", ["pad_idx"], "unpad.width", start=1, end=2)
        parts = [
            out.node("Div", [column, width], "unpad.row"),
            out.node("Mod", [column, width], "unpad.place"),
        ]
        return out.node("Concat", parts, "unpad.places", axis=1)

    def embed(self) -> None:
        """Look up the rows of the embedding and norm them for the first layer."""
        shape = self._plan.shape
        self._sum = self._products.look_up(
            "embedding", "input_ids", columns=shape.hidden, output="embedding.out"
        )
        self._x = self._out.node(
            "SimplifiedLayerNormalization",
            [self._sum, self._norm("layers.0.attn_norm")],
            "layers.0.attn_norm.out",
            axis=-1,
            epsilon=shape.norm_eps,
            stash_type=1,
        )

    def layer(self, number: int) -> None:
        """Add attention and feed-forward of one layer."""
        name = f"layers.{number}"
        shape, product = self._plan.shape, self._products.product
        is_last = number == shape.layers - 1
        packed = self._attention(number, product(f"{name}.qkv", self._x, columns=shape.hidden))
        if is_last:
            # From here on rows are wanted for their logits alone, and a prompt wants one or none.
            packed = self._rows(packed, "logit_idx", f"{name}.attention.picked")
            self._sum = self._rows(self._sum, "logit_idx", f"{name}.picked")
        o = product(f"{name}.o", packed, columns=shape.heads * shape.head_dim)
        self._add_and_norm(f"{name}.ffn_norm", o)
        both = product(f"{name}.gate_up", self._x, columns=shape.hidden)
        down = product(f"{name}.down", self._gated(name, both), columns=shape.intermediate)
        following = "norm" if is_last else f"layers.{number + 1}.attn_norm"
        self._add_and_norm(following, down)

    def finish(self) -> None:
        """Multiply the tokens whose logits are wanted with the head."""
        is_own = any(f"head.{kind}" in self._out.regions for kind in ("values", "floats"))
        weight, columns = "head" if is_own else "embedding", self._plan.shape.hidden
        self._products.product(weight, self._x, columns=columns, output="logits")

    def _attention(self, number: int, qkv: str) -> str:
        name, shape = f"layers.{number}.attention", self._plan.shape
        padded = self._rows(qkv, "pad_idx", f"{name}.padded")
        past = [f"past.{number}.{side}" for side in "kv"]
        arrays = [self._cast(padded, _COMPUTED[self._plan.kv_dtype]), "", "", *past, "seqlens_k"]
        arrays += ["total_len", "cos", "sin", "position_ids"]
        # Unused inputs are empty names: 10 and 11, head sink and attention bias; 14 and 15.
        arrays += ["", "", *self._kv_scales(number), "", "", "query_seqlens"]
        out = f"{name}.rows"
        node = helper.make_node(
            "GroupQueryAttention",
            arrays,
            [out, *(f"present.{number}.{side}" for side in "kv")],
            name=name,
            domain=MICROSOFT,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            **self._kv_quantization(),
        )
        self._out.nodes.append(node)
        return self._packed(number, self._cast(out, TensorProto.FLOAT), qkv)

    def _packed(self, number: int, rows: str, qkv: str) -> str:
        """Add what picks the real tokens' places of `rows` [B, S, columns]."""
        name, shape = f"layers.{number}.attention", self._plan.shape
        packed = f"{name}.packed"
        if self._chunk is None:
            # One node, and not Reshape and Gather: a layer of a small model takes 200
            # microseconds, and each node 3 beside its work.
            return self._out.node("GatherND", [rows, self._places], packed)
        wide = self._out.rows_of(shape.heads * shape.head_dim)
        flat = self._out.node("Reshape", [rows, wide], f"{name}.flat")
        # Attention of the chunk lies behind that of the padded rows: `unpad_idx` counts on.
        parts = [flat, self._chunk.attend(number, qkv)]
        both = self._out.node("Concat", parts, f"{name}.all", axis=0)
        return self._rows(both, "unpad_idx", packed)

    def _rows(self, array: str, index: str, output: str) -> str:
        return self._out.node("Gather", [array, index], output, axis=0)

    def _kv_scales(self, number: int) -> list[str]:
        is_int8 = self._plan.kv_dtype is KvDtype.INT8
        return [f"{side}_scale.{number}" if is_int8 else "" for side in "kv"]

    def _kv_quantization(self) -> dict[str, Any]:
        if self._plan.kv_dtype is not KvDtype.INT8:
            return {}
        kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
        return {**kinds, "kv_cache_bit_width": 8}

    def _cast(self, array: str, element: int) -> str:
        if _COMPUTED[self._plan.kv_dtype] == TensorProto.FLOAT:
            return array
        return self._out.node("Cast", [array], f"{array}.cast", to=element)

    def _gated(self, name: str, both: str) -> str:
        gate, up = f"{name}.gate", f"{name}.up"
        split = helper.make_node(
            "Split", [both], [gate, up], name=f"{name}.split", axis=-1, num_outputs=2
        )
        self._out.nodes.append(split)
        # With alpha 1 this is SiLU, x * sigmoid(x), in one node.
        active = self._out.node("QuickGelu", [gate], f"{name}.active", alpha=1.0)
        return self._out.node("Mul", [active, up], f"{name}.gated")

    def _add_and_norm(self, norm: str, branch: str) -> None:
        outputs = [f"{norm}.out", "", "", f"{norm}.sum"]
        node = helper.make_node(
            "SkipSimplifiedLayerNormalization",
            [self._sum, branch, self._norm(norm)],
            outputs[:1] if norm == "norm" else outputs,
            name=norm,
            domain=MICROSOFT,
            epsilon=self._plan.shape.norm_eps,
        )
        self._out.nodes.append(node)
        self._x, self._sum = outputs[0], outputs[3]

    def _norm(self, name: str) -> str:
        region = self._out.regions.get(name)
        hidden = self._plan.shape.hidden
        if region is None or region.shape != (hidden,):
            msg = f"{name}: {'missing' if region is None else list(region.shape)}, not [{hidden}]"
            raise ModelError(msg)
        return self._out.external(name)
