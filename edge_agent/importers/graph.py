"""Builds the decoder graph: packed tokens in, logits of chosen tokens out, weights kept outside.

All real tokens of a step are concatenated to [T]. The matrix products see no padding; `pad_idx`
and `unpad_idx` lay tokens out as [B, S] around attention only, whose `query_seqlens` carries rows
of different lengths. Knows array names and places, never the numbers in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edge_agent.importers import weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.manifest import Quantization, Rope, Shape

_OPSET = 21
_IR_VERSION = 10
_MS = "com.microsoft"


class KvDtype(StrEnum):
    """What the KV cache stores; the cos and sin tables have the same type."""

    FP32 = "fp32"
    FP16 = "fp16"


_ELEMENT = {KvDtype.FP32: TensorProto.FLOAT, KvDtype.FP16: TensorProto.FLOAT16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """`accuracy_level` of each kind of matrix product.

    4 rounds activations to 8 bits per block of 32 and is the fast path; 0 multiplies in fp32.
    """

    qkv: int = 4
    o: int = 4
    gate_up: int = 4
    down: int = 4
    head: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the graph depends on beside the places of the weights."""

    shape: Shape
    rope: Rope
    quantization: Quantization
    kv_dtype: KvDtype
    accuracy: Accuracy = Accuracy()


def decoder(plan: Plan, regions: Mapping[str, Region]) -> ModelProto:
    """Return the decoder whose weights lie in `regions` of the weights file.

    Arrays: `embedding`, `layers.N.{qkv,o,gate_up,down}` and, if not tied, `head`, each as `.values`
    uint8 [rows, blocks, block], `.scales` float32 [rows, blocks] and, unless symmetric,
    `.zero_points` uint8 [rows, blocks]; `layers.N.{attn_norm,ffn_norm}` and `norm` float32.
    """
    builder = _Builder(plan, regions)
    builder.embed()
    for layer in range(plan.shape.layers):
        builder.layer(layer)
    builder.finish()
    graph = helper.make_graph(
        builder.nodes,
        "decoder",
        _inputs(plan),
        _outputs(plan),
        initializer=builder.initializers,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MS, 1)]
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

    def __init__(self, plan: Plan, regions: Mapping[str, Region]) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._plan = plan
        self._regions = regions
        self._added: set[str] = set()
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
        arrays = [self._external("embedding.values"), "input_ids"]
        arrays.append(self._external("embedding.scales", trailing=True))
        if "embedding.zero_points" in self._regions:
            arrays.append(self._external("embedding.zero_points", trailing=True))
        blocks = self._node("GatherBlockQuantized", arrays, "embedding.blocks", **attributes)
        flat = self._constant("embedding.dims", [-1, shape.hidden])
        self._sum = self._node("Reshape", [blocks, flat], "embedding.out")
        self._x = self._node(
            "SimplifiedLayerNormalization",
            [self._sum, self._external("layers.0.attn_norm")],
            "layers.0.attn_norm.out",
            axis=-1,
            epsilon=shape.norm_eps,
            stash_type=1,
        )

    def layer(self, number: int) -> None:
        """Add attention and feed-forward of one layer."""
        name = f"layers.{number}"
        accuracy, last = self._plan.accuracy, self._plan.shape.layers - 1
        qkv = self._product(f"{name}.qkv", self._x, accuracy.qkv)
        attended = self._attention(number, qkv)
        self._add_and_norm(f"{name}.ffn_norm", self._product(f"{name}.o", attended, accuracy.o))
        both = self._product(f"{name}.gate_up", self._x, accuracy.gate_up)
        down = self._product(f"{name}.down", self._gated(name, both), accuracy.down)
        following = "norm" if number == last else f"layers.{number + 1}.attn_norm"
        self._add_and_norm(following, down)

    def finish(self) -> None:
        """Pick the tokens whose logits are wanted and multiply them with the head."""
        picked = self._node("Gather", [self._x, "logit_idx"], "picked", axis=0)
        tied = "head.values" not in self._regions
        weight = "embedding" if tied else "head"
        self._product(weight, picked, self._plan.accuracy.head, output="logits")

    def _attention(self, number: int, qkv: str) -> str:
        name, shape = f"layers.{number}.attention", self._plan.shape
        padded = self._node("Gather", [qkv, "pad_idx"], f"{name}.padded", axis=0)
        past = [f"past.{number}.{side}" for side in "kv"]
        arrays = [self._cast(padded, _ELEMENT[self._plan.kv_dtype]), "", "", *past, "seqlens_k"]
        arrays += [
            "total_len",
            "cos",
            "sin",
            "position_ids",
            "",
            "",
            "",
            "",
            "",
            "",
            "query_seqlens",
        ]
        out = f"{name}.rows"
        node = helper.make_node(
            "GroupQueryAttention",
            arrays,
            [out, *(f"present.{number}.{side}" for side in "kv")],
            name=name,
            domain=_MS,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
        )
        self.nodes.append(node)
        wide = self._constant("attention.dims", [-1, shape.heads * shape.head_dim])
        flat = self._node("Reshape", [self._cast(out, TensorProto.FLOAT), wide], f"{name}.flat")
        return self._node("Gather", [flat, "unpad_idx"], f"{name}.packed", axis=0)

    def _cast(self, array: str, element: int) -> str:
        if self._plan.kv_dtype is KvDtype.FP32:
            return array
        return self._node("Cast", [array], f"{array}.cast", to=element)

    def _gated(self, name: str, both: str) -> str:
        gate, up = f"{name}.gate", f"{name}.up"
        split = helper.make_node(
            "Split", [both], [gate, up], name=f"{name}.split", axis=-1, num_outputs=2
        )
        self.nodes.append(split)
        # With alpha 1 this is SiLU, x * sigmoid(x), in one node.
        active = self._node("QuickGelu", [gate], f"{name}.active", alpha=1.0)
        return self._node("Mul", [active, up], f"{name}.gated")

    def _add_and_norm(self, norm: str, branch: str) -> None:
        outputs = [f"{norm}.out", "", "", f"{norm}.sum"]
        node = helper.make_node(
            "SkipSimplifiedLayerNormalization",
            [self._sum, branch, self._external(norm)],
            outputs[:1] if norm == "norm" else outputs,
            name=norm,
            domain=_MS,
            epsilon=self._plan.shape.norm_eps,
        )
        self.nodes.append(node)
        self._x, self._sum = outputs[0], outputs[3]

    def _product(self, weight: str, array: str, accuracy: int, output: str = "") -> str:
        rows, blocks, block = self._regions[f"{weight}.values"].shape
        is_head = weight in {"embedding", "head"}
        quantization = self._plan.quantization
        arrays = [array, self._external(f"{weight}.values"), self._external(f"{weight}.scales")]
        if f"{weight}.zero_points" in self._regions:
            arrays.append(self._external(f"{weight}.zero_points"))
        return self._node(
            "MatMulNBits",
            arrays,
            output or f"{weight}.out",
            K=blocks * block,
            N=rows,
            bits=quantization.head_bits if is_head else quantization.bits,
            block_size=quantization.head_block if is_head else quantization.block,
            accuracy_level=accuracy,
        )

    def _node(
        self,
        op: str,
        arrays: list[str],
        output: str,
        **attributes: Any,  # noqa: ANN401  # numbers, strings or lists, as the op has it
    ) -> str:
        domain = _MS if op in {"GatherBlockQuantized", "MatMulNBits", "QuickGelu"} else ""
        node = helper.make_node(
            op, arrays, [output], name=output.removesuffix(".out"), domain=domain, **attributes
        )
        self.nodes.append(node)
        return output

    def _constant(self, name: str, numbers: list[int]) -> str:
        if name not in self._added:
            self._added.add(name)
            self.initializers.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
        return name

    def _external(self, array: str, *, trailing: bool = False) -> str:
        """Name an array of the weights file; `trailing` sees it with a last dimension of 1."""
        name = f"{array}.trailing" if trailing else array
        if name in self._added:
            return name
        self._added.add(name)
        region = self._regions[array]
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(region.dtype),
            dims=[*region.shape, 1] if trailing else region.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": weights.FILE_NAME, "offset": region.offset, "length": region.num_bytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name
