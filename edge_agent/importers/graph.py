"""Builds the decoder graph: packed tokens in, logits of chosen tokens out, weights kept outside.

All real tokens of a step are concatenated to [T]. The matrix products see no padding; `pad_idx`
and `unpad_idx` lay tokens out as [B, S] around attention only, whose `query_seqlens` carries rows
of different lengths. Knows array names and places, never the numbers in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from edge_agent.importers.nodes import MICROSOFT, Nodes
from edge_agent.importers.products import product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.manifest import Quantization, Rope, Shape

_OPSET = 21
_IR_VERSION = 10


class KvDtype(StrEnum):
    """What the KV cache stores; the cos and sin tables have the same type."""

    FP32 = "fp32"
    FP16 = "fp16"


_ELEMENT = {KvDtype.FP32: TensorProto.FLOAT, KvDtype.FP16: TensorProto.FLOAT16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the graph depends on beside the places of the weights."""

    shape: Shape
    rope: Rope
    quantization: Quantization
    kv_dtype: KvDtype


def decoder(plan: Plan, regions: Mapping[str, Region]) -> ModelProto:
    """Return the decoder whose weights lie in `regions` of the weights file.

    Arrays: `embedding`, `layers.N.{qkv,o,gate_up,down}` and, if not tied, `head`, each as `.values`
    uint8 [rows, blocks, block * bits / 8], `.scales` float32 [rows, blocks] and, if its blocks have
    offsets, `.offsets` float32 [blocks, rows]; `layers.N.{attn_norm,ffn_norm}` and `norm` float32.
    """
    out = Nodes(regions)
    builder = _Builder(plan, out)
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


def _inputs(plan: Plan) -> list[ValueInfoProto]:
    int32, int64 = TensorProto.INT32, TensorProto.INT64
    element = _ELEMENT[plan.kv_dtype]
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
    ]


def _outputs(plan: Plan) -> list[ValueInfoProto]:
    logits = _value("logits", TensorProto.FLOAT, ["R", plan.shape.vocab])
    return [logits, *_caches(plan, "present")]


def _caches(plan: Plan, when: str) -> list[ValueInfoProto]:
    dims = ["B", plan.shape.kv_heads, "C", plan.shape.head_dim]
    element = _ELEMENT[plan.kv_dtype]
    names = [f"{when}.{layer}.{side}" for layer in range(plan.shape.layers) for side in "kv"]
    return [_value(name, element, dims) for name in names]


def _value(name: str, element: int, dims: list[Any]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, dims)


class _Builder:
    """Adds nodes in order; `_x` is the normed input of the next product, `_sum` the residual."""

    def __init__(self, plan: Plan, out: Nodes) -> None:
        self._out = out
        self._plan = plan
        self._x = self._sum = ""

    def embed(self) -> None:
        """Look up the rows of the embedding and norm them for the first layer."""
        shape, quantization = self._plan.shape, self._plan.quantization
        attributes = {
            "bits": quantization.head_bits,
            "block_size": quantization.head_block,
            "gather_axis": 0,
            "quantize_axis": 2,
        }
        # The 3-D form reads the very initializer of the head; a Reshape of it would be a copy.
        arrays = [self._out.external("embedding.values"), "input_ids"]
        arrays.append(self._out.external("embedding.scales", trailing=True))
        blocks = self._out.node("GatherBlockQuantized", arrays, "embedding.blocks", **attributes)
        flat = self._out.rows_of(shape.hidden)
        self._sum = self._out.node("Reshape", [blocks, flat], "embedding.out")
        self._x = self._out.node(
            "SimplifiedLayerNormalization",
            [self._sum, self._out.external("layers.0.attn_norm")],
            "layers.0.attn_norm.out",
            axis=-1,
            epsilon=shape.norm_eps,
            stash_type=1,
        )

    def layer(self, number: int) -> None:
        """Add attention and feed-forward of one layer."""
        name = f"layers.{number}"
        last = self._plan.shape.layers - 1
        qkv = self._product(f"{name}.qkv", self._x)
        attended = self._attention(number, qkv)
        self._add_and_norm(f"{name}.ffn_norm", self._product(f"{name}.o", attended))
        both = self._product(f"{name}.gate_up", self._x)
        down = self._product(f"{name}.down", self._gated(name, both))
        following = "norm" if number == last else f"layers.{number + 1}.attn_norm"
        self._add_and_norm(following, down)

    def finish(self) -> None:
        """Pick the tokens whose logits are wanted and multiply them with the head."""
        picked = self._out.node("Gather", [self._x, "logit_idx"], "picked", axis=0)
        tied = "head.values" not in self._out.regions
        weight = "embedding" if tied else "head"
        self._product(weight, picked, output="logits")

    def _attention(self, number: int, qkv: str) -> str:
        name, shape = f"layers.{number}.attention", self._plan.shape
        padded = self._out.node("Gather", [qkv, "pad_idx"], f"{name}.padded", axis=0)
        past = [f"past.{number}.{side}" for side in "kv"]
        arrays = [self._cast(padded, _ELEMENT[self._plan.kv_dtype]), "", "", *past, "seqlens_k"]
        # Unused inputs are empty names: 10 and 11, head sink and attention bias; 12-15, KV scales.
        arrays += ["total_len", "cos", "sin", "position_ids", *[""] * 6, "query_seqlens"]
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
        )
        self._out.nodes.append(node)
        wide = self._out.rows_of(shape.heads * shape.head_dim)
        flat = self._out.node("Reshape", [self._cast(out, TensorProto.FLOAT), wide], f"{name}.flat")
        return self._out.node("Gather", [flat, "unpad_idx"], f"{name}.packed", axis=0)

    def _cast(self, array: str, element: int) -> str:
        if self._plan.kv_dtype is KvDtype.FP32:
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
            [self._sum, branch, self._out.external(norm)],
            outputs[:1] if norm == "norm" else outputs,
            name=norm,
            domain=MICROSOFT,
            epsilon=self._plan.shape.norm_eps,
        )
        self._out.nodes.append(node)
        self._x, self._sum = outputs[0], outputs[3]

    def _product(self, weight: str, array: str, output: str = "") -> str:
        return product(self._out, self._plan.quantization, weight, array, output)
