"""A decoder is found by what its operations compute; whatever computes otherwise is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edge_agent.errors import ModelError
from tests.importers.tiny_genai import (
    HEADS,
    KV_HEADS,
    ORIGINAL_CONTEXT,
    TinyGenai,
    find_decoder,
    node,
    set_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def insert_behind(model: ModelProto, value: str, op: str, *more: str, **attributes: Any) -> None:
    """Put an operation between `value` and whoever reads it."""
    index = next(i for i, one in enumerate(model.graph.node) if value in one.output)
    for later in model.graph.node:
        for position, name in enumerate(later.input):
            if name == value:
                later.input[position] = f"{value} changed"
    added = helper.make_node(op, [value, *more], [f"{value} changed"], f"/added {op}", **attributes)
    model.graph.node.insert(index + 1, added)


def test_layers_are_found_in_their_order(tmp_path: Path) -> None:
    decoder = find_decoder(tmp_path, TinyGenai(layers=3))

    assert [layer.attn_norm.name for layer in decoder.layers] == [
        f"layers.{index}.attn_norm" for index in range(3)
    ]
    assert decoder.norm.name == "norm"
    assert decoder.norm_eps == pytest.approx(1e-5)
    assert (decoder.attention.heads, decoder.attention.kv_heads) == (HEADS, KV_HEADS)
    assert decoder.rope.threshold == ORIGINAL_CONTEXT


def test_the_names_of_values_and_tensors_mean_nothing(tmp_path: Path) -> None:
    def rename(model: ModelProto) -> None:
        made = [name for one in model.graph.node for name in one.output if name]
        stored = [tensor.name for tensor in model.graph.initializer]
        new = {name: f"v{i}" for i, name in enumerate([*made, *stored]) if name != "logits"}
        for one in model.graph.node:
            one.name = ""
            for names in (one.input, one.output):
                names[:] = [new.get(name, name) for name in names]
        for tensor in model.graph.initializer:
            tensor.name = new[tensor.name]

    decoder = find_decoder(tmp_path, TinyGenai(edit=rename))

    assert len(decoder.layers) == 2


@pytest.mark.parametrize(
    "tiny",
    [
        TinyGenai(is_fused=True),
        TinyGenai(is_fused=True, bits=32),
        TinyGenai(is_long=False),
        TinyGenai(embedding="float"),
        TinyGenai(embedding="blocks"),
    ],
    ids=["fused", "floats", "one table", "float embedding", "block embedding"],
)
def test_other_ways_to_write_the_same_are_read(tmp_path: Path, tiny: TinyGenai) -> None:
    decoder = find_decoder(tmp_path, tiny)

    assert len(decoder.layers[0].qkv) == len(decoder.layers[0].gate_up) + (not tiny.is_fused)


def test_casts_between_widths_of_floats_change_nothing(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        for value in (
            "embedded",
            "layers.0.ffn_norm sum",
            "layers.1.attn_norm of",
            "o 1",
            "down 0",
        ):
            insert_behind(model, value, "Cast", to=TensorProto.FLOAT16)
        insert_behind(model, "embedded changed", "Cast", to=TensorProto.FLOAT)

    assert len(find_decoder(tmp_path, TinyGenai(edit=edit)).layers) == 2


def test_the_order_of_factors_and_summands_means_nothing(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        for one in model.graph.node:
            if one.op_type in {"Mul", "SkipSimplifiedLayerNormalization"}:
                one.input[0], one.input[1] = one.input[1], one.input[0]

    assert len(find_decoder(tmp_path, TinyGenai(edit=edit)).layers) == 2


def test_a_head_for_the_last_position_alone_is_a_head(tmp_path: Path) -> None:
    assert len(find_decoder(tmp_path, TinyGenai(edit=_pruned(-1, 1))).layers) == 2


@pytest.mark.parametrize(("position", "axis"), [(0, 1), (-1, 0)])
def test_a_head_for_another_position_is_refused(tmp_path: Path, position: int, axis: int) -> None:
    with pytest.raises(ModelError, match="does not pick the last position"):
        find_decoder(tmp_path, TinyGenai(edit=_pruned(position, axis)))


def _pruned(position: int, axis: int) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        for name, value, dims in (("where", position, []), ("axes", 1, [1])):
            tensor = helper.make_tensor(name, TensorProto.INT64, dims, [value])
            model.graph.initializer.append(tensor)
        insert_behind(model, "norm of", "Gather", "where", axis=axis)
        insert_behind(model, "norm of changed", "Unsqueeze", "axes")

    return edit


def _attribute(op: str, name: str, value: object, index: int = 0) -> Callable[[ModelProto], None]:
    return lambda model: set_attribute(node(model, op, index), name, value)


def _swap_outputs(op: str, index: int) -> Callable[[ModelProto], None]:
    """Return what makes the operation's first output another one of its outputs."""

    def edit(model: ModelProto) -> None:
        outputs = node(model, op).output
        outputs[0], outputs[index] = outputs[index], outputs[0]

    return edit


def _more_parts(model: ModelProto) -> None:
    node(model, "Split").output.append("a third")


def _input(op: str, position: int, name: str) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        changed = node(model, op)
        changed.input.extend([""] * (position + 1 - len(changed.input)))
        changed.input[position] = name

    return edit


def _op(op: str, other: str) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        node(model, op).op_type = other

    return edit


def _after(value: str, op: str, *more: str, **attributes: Any) -> Callable[[ModelProto], None]:
    return lambda model: insert_behind(model, value, op, *more, **attributes)


def _constant(op: str, position: int, value: int | list[int]) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        tensor = numpy_helper.from_array(np.array(value, np.int64), "another")
        model.graph.initializer.append(tensor)
        _input(op, position, "another")(model)

    return edit


def _last(op: str) -> Callable[[ModelProto], None]:
    """Return what makes the logits the result of another operation behind the head."""

    def edit(model: ModelProto) -> None:
        head = next(one for one in model.graph.node if one.output[0] == "logits")
        head.output[0] = "not yet"
        model.graph.node.append(helper.make_node(op, ["not yet"], ["logits"], f"/last {op}"))

    return edit


def _append(added: NodeProto) -> Callable[[ModelProto], None]:
    return lambda model: model.graph.node.append(added)


GQA, NORM = "GroupQueryAttention", "SimplifiedLayerNormalization"
SKIP = "SkipSimplifiedLayerNormalization"
REFUSED = {
    # What is added to a plain decoder
    "a bias": (_after("down 0", "Add", "norm"), "Add '/added Add': stands where this version"),
    "an adapter": (_after("o 0", "Add", "embedded"), "knows MatMulNBits or MatMul only"),
    "a scaled embedding": (_after("embedded", "Mul", "one"), "Mul '/added Mul': stands where"),
    "a cap of the logits": (_last("Tanh"), "Tanh '/last Tanh': stands where this version knows"),
    "a norm of queries": (
        _after("product layers.0.qkv/0", NORM, "norm"),
        "SimplifiedLayerNormalization '/added .*stands where this version knows MatMulNBits",
    ),
    "a cast to integers": (_after("o 0", "Cast", to=TensorProto.INT8), "something else than a fl"),
    "an operation nobody uses": (
        _append(helper.make_node("MoE", ["embedded"], ["x"], "experts", domain="com.microsoft")),
        "MoE 'experts': its meaning is not known to this version, which would ignore it",
    ),
    # Attention
    "no rotation": (_attribute(GQA, "do_rotary", 0), "do_rotary is 0; this version reads 1"),
    "interleaved": (_attribute(GQA, "rotary_interleaved", 1), "rotary_interleaved is 1"),
    "smooth softmax": (_attribute(GQA, "smooth_softmax", 1), "smooth_softmax is 1"),
    "capped scores": (_attribute(GQA, "softcap", 50.0), "softcap"),
    "8-bit cache": (_attribute(GQA, "k_quant_type", "PER_TENSOR"), "attribute 'k_quant_type' is n"),
    "a text for a number": (_attribute(GQA, "num_heads", "two"), "is not the integer"),
    "an integer for a float": (_attribute(GQA, "scale", 1), "is not the number"),
    "layers that differ": (_attribute(GQA, "local_window_size", 64), "while another layer has"),
    "positions": (_input(GQA, 9, "ids"), r"input 9 \('ids'\) is not known"),
    "sinks": (_input(GQA, 11, "norm"), r"input 11 \('norm'\) is not known"),
    "a cache made here": (_input(GQA, 3, "embedded"), "its cache is not an input of the graph"),
    "other queries": (_input("MatMulNBits", 0, "embedded"), "parts are made of different values"),
    "multi-head attention": (_op(GQA, "MultiHeadAttention"), "MultiHeadAttention '/attended 0'"),
    # Norms
    "a centred norm": (_op(NORM, "LayerNormalization"), "LayerNormalization '/layers.0.attn_norm"),
    "another epsilon": (_attribute(SKIP, "epsilon", 1e-3), "while another layer has"),
    "another axis": (_attribute(NORM, "axis", 0), "is not over the last axis"),
    "a bias in a norm": (_input(SKIP, 3, "norm"), r"input 3 \('norm'\) is not known"),
    "another stream": (_input(SKIP, 0, "layers.0.attn_norm of"), "adds to 'layers.0.attn_norm of'"),
    # Gate
    "relu": (_op("Sigmoid", "Relu"), "Relu '/sigmoid 0': stands where this version knows Sigmoid"),
    "another gate": (_input("Sigmoid", 0, "product layers.0.gate_up/1"), "two different values"),
    "no gate": (_input("Mul", 1, "product layers.0.gate_up/1"), "knows Sigmoid only"),
    # Ends
    "other ids": (_input("GatherBlockQuantized", 1, "mask"), "looks up 'mask', not 'ids'"),
    "a sparse embedding": (_op("GatherBlockQuantized", "GatherND"), "GatherND '/embedded'"),
    # The mask
    "a mask of its own": (_input("ReduceSum", 0, "ids"), "adds 'ids', not 'mask'"),
    "another length": (_input("Shape", 0, "ids"), "is not the length of 'mask'"),
    "another dimension": (_constant("Gather", 1, 0), r"input 1 is \[0\], expected \[1\]"),
    "two less": (_constant("Sub", 1, [2]), r"Sub '/less one': input 1 is \[2\], expected \[1\]"),
    "another comparison": (_op("Greater", "Less"), "Less '/longer': stands where"),
    "no limit": (_input("Greater", 1, "ids"), "value 'ids' is no result"),
    "a limit of none": (_constant("Greater", 1, 0), r"compares with \[0\], not with a length"),
    "two limits": (_constant("Greater", 1, [8, 9]), r"compares with \[8, 9\], not with a length"),
    "a long limit": (_constant("Greater", 1, [1] * 17), "not the few integers"),
}


FUSED = TinyGenai(is_fused=True)
FLOAT = TinyGenai(embedding="float")
TURNED = TinyGenai(bits=32)
REFUSED_OTHERWISE = {
    "another gelu": (FUSED, _attribute("QuickGelu", "alpha", 1.702), "is not SiLU: its alpha"),
    "uneven": (FUSED, _constant("Split", 1, [90, 102]), "does not cut in halves, gate and up"),
    "three parts": (FUSED, _more_parts, "does not cut in halves, gate and up"),
    "rows": (FUSED, _attribute("Split", "axis", 1), "does not cut along the last axis"),
    "columns": (FLOAT, _attribute("Gather", "axis", 1, -1), "does not look up rows"),
    "not turned": (TURNED, _attribute("Transpose", "perm", [0, 1]), "does not exchange rows and"),
    "no layers": (TinyGenai(layers=0), lambda _: None, "stands where a layer is expected"),
    "the sum for the norm": (TinyGenai(), _swap_outputs(SKIP, 3), "as if it were the norm"),
    "keys for the result": (TinyGenai(), _swap_outputs(GQA, 1), "as if it were the first"),
}


@pytest.mark.parametrize("case", REFUSED_OTHERWISE)
def test_other_mathematics_of_other_forms_is_refused_too(tmp_path: Path, case: str) -> None:
    tiny, edit, problem = REFUSED_OTHERWISE[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, replace(tiny, edit=edit))


@pytest.mark.parametrize("case", REFUSED)
def test_other_mathematics_is_refused_by_name(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))
