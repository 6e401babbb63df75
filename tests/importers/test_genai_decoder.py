"""A decoder is found by what its operations compute; whatever computes otherwise is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from onnx import ModelProto, TensorProto, helper

from edge_agent.errors import ModelError
from tests.importers.bent_genai import (
    NORM,
    SKIP,
    after,
    append,
    attribute,
    input_of,
    insert_behind,
    last,
    other_op,
    swap_outputs,
)
from tests.importers.tiny_genai import (
    HEADS,
    KV_HEADS,
    ORIGINAL_CONTEXT,
    TinyGenai,
    find_decoder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def test_what_the_logits_do_not_depend_on_is_left_out(tmp_path: Path) -> None:
    unused = helper.make_node("MoE", ["embedded"], ["x"], "experts", domain="com.microsoft")

    assert len(find_decoder(tmp_path, TinyGenai(edit=append(unused))).layers) == 2


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


REFUSED = {
    # What is added to a plain decoder
    "a bias": (after("down 0", "Add", "norm"), "Add '/added Add': stands where this version"),
    "an adapter": (after("o 0", "Add", "embedded"), "knows MatMulNBits or MatMul only"),
    "a scaled embedding": (after("embedded", "Mul", "one"), "Mul '/added Mul': stands where"),
    "a cap of the logits": (last("Tanh"), "Tanh '/last Tanh': stands where this version knows"),
    "a norm of queries": (
        after("product layers.0.qkv/0", NORM, "norm"),
        "SimplifiedLayerNormalization '/added .*stands where this version knows MatMulNBits",
    ),
    "a cast to integers": (after("o 0", "Cast", to=TensorProto.INT8), "something else than a fl"),
    "experts": (
        after("down 0", "MoE", "embedded", domain="com.microsoft"),
        "MoE '/added MoE': stands where this version knows MatMulNBits or MatMul only",
    ),
    # Norms
    "a centred norm": (
        other_op(NORM, "LayerNormalization"),
        "LayerNormalization '/layers.0.attn_norm",
    ),
    "another epsilon": (attribute(SKIP, "epsilon", 1e-3), "while another layer has"),
    "another axis": (attribute(NORM, "axis", 0), "is not over the last axis"),
    "a bias in a norm": (input_of(SKIP, 3, "norm"), r"input 3 \('norm'\) is not known"),
    "another stream": (
        input_of(SKIP, 0, "layers.0.attn_norm of"),
        "adds to 'layers.0.attn_norm of'",
    ),
    # Ends
    "other ids": (input_of("GatherBlockQuantized", 1, "mask"), "looks up 'mask', not 'ids'"),
    "a sparse embedding": (other_op("GatherBlockQuantized", "GatherND"), "GatherND '/embedded'"),
}


FUSED = TinyGenai(is_fused=True)
FLOAT = TinyGenai(embedding="float")
TURNED = TinyGenai(bits=32)
REFUSED_OTHERWISE = {
    "columns": (FLOAT, attribute("Gather", "axis", 1, -1), "does not look up rows"),
    "not turned": (TURNED, attribute("Transpose", "perm", [0, 1]), "does not exchange rows and"),
    "no layers": (TinyGenai(layers=0), lambda _: None, "stands where a layer is expected"),
    "the sum for the norm": (TinyGenai(), swap_outputs(SKIP, 3), "as if it were the norm"),
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
