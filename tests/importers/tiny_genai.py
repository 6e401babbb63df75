"""Small onnxruntime-genai packages with random weights, written by hand to be bent and broken.

The graph is what the builder of onnxruntime-genai 0.18 writes, names aside: those mean nothing.
What that builder itself writes is read in `tests/real/genai`.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from edge_agent.importers.directory import Directory
from edge_agent.importers.genai_decoder import Decoder, Names, read_decoder
from edge_agent.importers.genai_graph import Graph
from edge_agent.importers.genai_tensors import TensorFiles
from tests.importers import tiny_hf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

F32 = NDArray[np.float32]

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE = 64, 2, 1, 32, 96
VOCAB = tiny_hf.VOCAB
WIDE, NARROW = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
CONTEXT, ORIGINAL_CONTEXT = 128, 32
PAIRS = 8
THETA = 10_000.0
SHORT_FACTORS = tuple(1 + pair / 16 for pair in range(PAIRS))
LONG_FACTORS = tuple(1.5 + pair * pair for pair in range(PAIRS))
ATTENTION_FACTOR = (1 + np.log(CONTEXT / ORIGINAL_CONTEXT) / np.log(ORIGINAL_CONTEXT)) ** 0.5
DATA = "model.onnx.data"


@dataclass(kw_only=True)
class TinyGenai:
    """What to write; `edit` bends the model before it is written, `config` its description."""

    layers: int = 2
    bits: Literal[4, 8, 32] = 4
    block: int = 32
    has_zero_points: bool = False
    scales: type[np.floating[Any]] = np.float32
    embedding: Literal["tied", "float", "unlike", "blocks"] = "tied"
    is_fused: bool = False
    """Whether q, k, v and gate, up are one product each."""
    is_long: bool = True
    """Whether long requests rotate otherwise."""
    edit: Callable[[ModelProto], None] = field(default=lambda _: None, repr=False)
    config: Callable[[dict[str, Any]], None] = field(default=lambda _: None, repr=False)
    seed: int = 0

    def write(self, directory: Path) -> dict[str, F32]:
        """Write the files into the existing `directory`; return the weights by product."""
        builder = _Builder(self)
        model = builder.model()
        self.edit(model)
        (directory / DATA).write_bytes(bytes(builder.data))
        (directory / "model.onnx").write_bytes(model.SerializeToString())
        config = _config(self.layers)
        self.config(config)
        (directory / "genai_config.json").write_text(json.dumps(config))
        (directory / "tokenizer.json").write_text(json.dumps(tiny_hf.tokenizer()))
        (directory / "chat_template.jinja").write_text(tiny_hf.TEMPLATE)
        return builder.weights


def find_decoder(directory: Path, tiny: TinyGenai) -> Decoder:
    """Write `tiny` and return the decoder that is found in its graph; its files are closed."""
    tiny.write(directory)
    names = Names(input_ids="ids", attention_mask="mask", logits="logits")
    with ExitStack() as stack:
        model = ModelProto.FromString((directory / "model.onnx").read_bytes())
        graph = Graph(model, TensorFiles(Directory(directory), stack).locate)
        decoder = read_decoder(graph, names)
        graph.check_understood(names.logits)
        return decoder


def node(model: ModelProto, op: str, index: int = 0) -> NodeProto:
    """Return one of the nodes of `model` that are `op`."""
    found: list[NodeProto] = [node for node in model.graph.node if node.op_type == op]
    return found[index]


def set_attribute(changed: NodeProto, name: str, value: object) -> None:
    """Give `changed` the attribute `name`, or another value of it."""
    kept = [attribute for attribute in changed.attribute if attribute.name != name]
    del changed.attribute[:]
    changed.attribute.extend([*kept, helper.make_attribute(name, value)])


def initializer(model: ModelProto, part: str) -> TensorProto:
    """Return the first initializer of `model` whose name holds `part`."""
    found: list[TensorProto] = [one for one in model.graph.initializer if part in one.name]
    return found[0]


def tables(factors: Sequence[float], rows: int, scale: float = 1.0) -> tuple[F32, F32]:
    """Return cosines and sines [rows, PAIRS], in float32 as the builder computes them."""
    exponents = np.arange(PAIRS, dtype=np.float32) / np.float32(PAIRS)
    inverse = 1 / (np.asarray(factors, np.float32) * np.float32(THETA) ** exponents)
    angles = np.outer(np.arange(rows, dtype=np.float32), inverse.astype(np.float32))
    factor = np.float32(scale)
    return np.cos(angles) * factor, np.sin(angles) * factor


class _Builder:
    def __init__(self, tiny: TinyGenai) -> None:
        self.data = bytearray()
        self.weights: dict[str, F32] = {}
        self._tiny = tiny
        self._rng = np.random.default_rng(tiny.seed)
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []

    def model(self) -> ModelProto:
        """Return the model, whose weights lie in `data`."""
        self._lengths()
        self._rope()
        head = self._store("head", self._random(VOCAB, HIDDEN))
        stream, added = self._embedding(head), ""
        for layer in range(self._tiny.layers):
            value, stream = self._norm(f"layers.{layer}.attn_norm", stream, added)
            added = self._attention(layer, value)
            value, stream = self._norm(f"layers.{layer}.ffn_norm", stream, added)
            added = self._mlp(layer, value)
        value, _ = self._norm("norm", stream, added)
        self._multiply(value, head, (VOCAB, HIDDEN), "logits")
        cache = [f"{layer}.{side}" for layer in range(self._tiny.layers) for side in "kv"]
        inputs = [_value("ids", TensorProto.INT64), _value("mask", TensorProto.INT64)]
        graph = helper.make_graph(
            self._nodes,
            "decoder",
            [*inputs, *(_value(f"past.{name}") for name in cache)],
            [_value("logits"), *(_value(f"present.{name}") for name in cache)],
            self._initializers,
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _op(self, op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        domain = "com.microsoft" if op in _MICROSOFT else ""
        self._nodes.append(
            helper.make_node(op, inputs, outputs, f"/{outputs[0]}", domain=domain, **attributes)
        )
        return outputs[0]

    def _constant(self, name: str, value: int | list[int]) -> str:
        tensor = numpy_helper.from_array(np.array(value, np.int64), name)
        return self._op("Constant", [], name, value=tensor)

    def _lengths(self) -> None:
        one = self._constant("one", 1)
        ones = self._constant("ones", [1])
        total = self._op("ReduceSum", ["mask", ones], "sum", keepdims=0)
        self._op("Cast", [self._op("Sub", [total, ones], "less one")], "last", to=TensorProto.INT32)
        length = self._op("Gather", [self._op("Shape", ["mask"], "shape"), one], "length", axis=0)
        self._op("Cast", [length], "total", to=TensorProto.INT32)

    def _rope(self) -> None:
        if not self._tiny.is_long:
            for name, table in zip(("cos", "sin"), tables([1.0] * PAIRS, CONTEXT), strict=True):
                self._array(name, table)
            return
        limit = self._constant("limit", ORIGINAL_CONTEXT)
        is_longer = self._op("Greater", ["length", limit], "longer")
        branches = {
            "then_branch": _branch("long", tables(LONG_FACTORS, CONTEXT, ATTENTION_FACTOR)),
            "else_branch": _branch(
                "short", tables(SHORT_FACTORS, ORIGINAL_CONTEXT, ATTENTION_FACTOR)
            ),
        }
        self._op("If", [is_longer], "cos", "sin", **branches)

    def _embedding(self, head: Sequence[str]) -> str:
        kind, bits = self._tiny.embedding, self._tiny.bits
        if kind in {"float", "unlike"}:
            like = self.weights["head"] if kind == "float" else self._random(VOCAB, HIDDEN)
            self.weights["embedding"] = like
            return self._op("Gather", [self._array("embedding", like), "ids"], "embedded")
        if bits == 32:
            turned = self._op("Transpose", head, "turned", perm=[1, 0])
            return self._op("Gather", [turned, "ids"], "embedded")
        if kind == "blocks":
            head = self._store("embedding", self._random(VOCAB, HIDDEN))
        size = self._constant("size", [VOCAB, HIDDEN * bits // 8])
        flat = self._op("Reshape", [head[0], size], "flat")
        sizes = {"bits": bits, "block_size": self._tiny.block, "gather_axis": 0, "quantize_axis": 1}
        return self._op("GatherBlockQuantized", [flat, "ids", *head[1:]], "embedded", **sizes)

    def _norm(self, name: str, stream: str, added: str) -> tuple[str, str]:
        weight = self._rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
        self.weights[name] = weight
        stored = self._array(name, weight)
        if not added:
            facts = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
            self._op("SimplifiedLayerNormalization", [stream, stored], f"{name} of", **facts)
            return f"{name} of", stream
        outputs = [f"{name} of", "", "", f"{name} sum"]
        op = "SkipSimplifiedLayerNormalization"
        self._op(op, [stream, added, stored], *outputs, epsilon=1e-5)
        return outputs[0], outputs[3]

    def _attention(self, layer: int, value: str) -> str:
        sides = self._side_by_side(f"layers.{layer}.qkv", [WIDE, NARROW, NARROW], value)
        inputs = [*sides, *[""] * (3 - len(sides)), f"past.{layer}.k", f"past.{layer}.v"]
        facts = {
            "num_heads": HEADS,
            "kv_num_heads": KV_HEADS,
            "scale": HEAD_DIM**-0.5,
            "do_rotary": 1,
            "rotary_interleaved": 0,
            "local_window_size": -1,
            "softcap": 0.0,
        }
        outputs = [f"attended {layer}", f"present.{layer}.k", f"present.{layer}.v"]
        inputs += ["last", "total", "cos", "sin"]
        self._op("GroupQueryAttention", inputs, *outputs, **facts)
        stored = self._store(f"layers.{layer}.o", self._random(HIDDEN, WIDE))
        return self._multiply(outputs[0], stored, (HIDDEN, WIDE), f"o {layer}")

    def _mlp(self, layer: int, value: str) -> str:
        sides = self._side_by_side(f"layers.{layer}.gate_up", [INTERMEDIATE] * 2, value)
        if len(sides) == 1:
            gate, up = f"gate {layer}", f"up {layer}"
            self._op("Split", sides, gate, up, axis=-1, num_outputs=2)
            active = self._op("QuickGelu", [gate], f"active {layer}", alpha=1.0)
        else:
            gate, up = sides
            sigmoid = self._op("Sigmoid", [gate], f"sigmoid {layer}")
            active = self._op("Mul", [gate, sigmoid], f"active {layer}")
        gated = self._op("Mul", [active, up], f"gated {layer}")
        stored = self._store(f"layers.{layer}.down", self._random(HIDDEN, INTERMEDIATE))
        return self._multiply(gated, stored, (HIDDEN, INTERMEDIATE), f"down {layer}")

    def _side_by_side(self, name: str, rows: list[int], value: str) -> list[str]:
        parts = [sum(rows)] if self._tiny.is_fused else rows
        outputs = []
        for index, count in enumerate(parts):
            part = f"{name}/{index}"
            stored = self._store(part, self._random(count, HIDDEN))
            outputs.append(self._multiply(value, stored, (count, HIDDEN), f"product {part}"))
        found = [self.weights.pop(f"{name}/{index}") for index in range(len(parts))]
        self.weights[name] = np.concatenate(found)
        return outputs

    def _multiply(
        self, value: str, stored: Sequence[str], size: tuple[int, int], output: str
    ) -> str:
        if self._tiny.bits == 32:
            return self._op("MatMul", [value, *stored], output)
        facts = {"N": size[0], "K": size[1], "bits": self._tiny.bits, "accuracy_level": 4}
        facts["block_size"] = self._tiny.block
        return self._op("MatMulNBits", [value, *stored], output, **facts)

    def _random(self, rows: int, columns: int) -> F32:
        return self._rng.normal(0, 0.1, (rows, columns)).astype(np.float32)

    def _store(self, name: str, floats: F32) -> list[str]:
        """Store `floats` as the package does, keep what they become, return the tensors' names."""
        if self._tiny.bits == 32:
            self.weights[name] = floats
            return [self._array(name, np.ascontiguousarray(floats.T))]
        bits, block = self._tiny.bits, self._tiny.block
        padded = np.pad(floats, ((0, 0), (0, -floats.shape[1] % block)))
        blocks = padded.reshape(len(floats), -1, block)
        scales = (np.abs(blocks).max(-1) / (1 << bits - 1)).astype(self._tiny.scales)
        centre = 1 << bits - 1
        points = np.full(scales.shape, centre, np.uint8)
        if self._tiny.has_zero_points:
            points = self._rng.integers(centre - 2, centre + 3, scales.shape).astype(np.uint8)
        wide = scales.astype(np.float32)[..., None]
        codes = np.rint(blocks / wide + points[..., None]).clip(0, (1 << bits) - 1)
        stored = ((codes - points[..., None]) * wide).astype(np.float32)
        self.weights[name] = stored.reshape(len(floats), -1)[:, : floats.shape[1]]
        names = [self._array(f"{name} values", _packed(codes.astype(np.uint8), bits))]
        names.append(self._array(f"{name} scales", scales))
        if self._tiny.has_zero_points:
            names.append(self._array(f"{name} points", _packed(points, bits)))
        return names

    def _array(self, name: str, array: NDArray[Any]) -> str:
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        place = {"location": DATA, "offset": len(self.data), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data += array.tobytes()
        self._initializers.append(tensor)
        return name


_MICROSOFT = {
    "GatherBlockQuantized",
    "GroupQueryAttention",
    "MatMulNBits",
    "QuickGelu",
    "SkipSimplifiedLayerNormalization",
}


def _packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return pairs of nibbles in one byte, the first in the low half; bytes as they are."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return np.asarray(codes[..., 0::2] | codes[..., 1::2] << 4, np.uint8)


def _branch(name: str, pair: tuple[F32, F32]) -> GraphProto:
    nodes, outputs = [], []
    for side, table in zip(("cos", "sin"), pair, strict=True):
        tensor = numpy_helper.from_array(table, f"{name} {side}")
        nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        outputs.append(_value(tensor.name))
    return helper.make_graph(nodes, name, [], outputs)


def _value(name: str, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def _config(layers: int) -> dict[str, Any]:
    decoder = {
        "filename": "model.onnx",
        "head_size": HEAD_DIM,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "inputs": {"input_ids": "ids", "attention_mask": "mask"},
        "outputs": {"logits": "logits"},
    }
    model = {
        "type": "phi3",
        "context_length": CONTEXT,
        "vocab_size": VOCAB,
        "eos_token_id": tiny_hf.CONTROL["<|endoftext|>"],
        "decoder": decoder,
    }
    search = {"do_sample": False, "temperature": 0.7, "top_k": 40, "top_p": 0.9}
    return {"model": model, "search": search}
