"""What a node says of its weight and what is stored must agree, to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from edge_agent.errors import ModelError
from edge_agent.importers.genai_weights import BlockWeight, FloatWeight
from tests.importers.tiny_genai import (
    HIDDEN,
    INTERMEDIATE,
    VOCAB,
    TinyGenai,
    find_decoder,
    initializer,
    node,
    set_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_sizes_are_those_of_the_product(tmp_path: Path) -> None:
    down = find_decoder(tmp_path, TinyGenai(block=64, has_zero_points=True)).layers[0].down

    assert isinstance(down, BlockWeight)
    assert (down.rows, down.columns, down.blocks) == (HIDDEN, INTERMEDIATE, 2)
    assert (down.row_bytes, down.zero_point_bytes) == (64, 1)


def test_floats_are_stored_as_columns(tmp_path: Path) -> None:
    decoder = find_decoder(tmp_path, TinyGenai(bits=32))

    assert isinstance(decoder.head, FloatWeight)
    assert (decoder.head.rows, decoder.head.columns) == (VOCAB, HIDDEN)
    assert decoder.head.is_transposed
    assert decoder.embedding == decoder.head


@pytest.mark.parametrize("dims", [[VOCAB * 2, 16], [VOCAB * 32], [VOCAB, 2, 16]])
def test_values_have_as_many_dimensions_as_their_builder_likes(
    tmp_path: Path, dims: list[int]
) -> None:
    def edit(model: ModelProto) -> None:
        initializer(model, "head values").dims[:] = dims
        initializer(model, "head scales").dims[:] = [VOCAB * 2]

    assert find_decoder(tmp_path, TinyGenai(edit=edit)).head.rows == VOCAB


def _attribute(name: str, value: object) -> Callable[[ModelProto], None]:
    return lambda model: set_attribute(node(model, "MatMulNBits"), name, value)


def _dims(
    tensor: str, dims: list[int], kind: int = TensorProto.UINT8
) -> Callable[[ModelProto], None]:
    """Return what makes `tensor` another one, all zeros, that stands in the model."""

    def edit(model: ModelProto) -> None:
        changed = initializer(model, tensor)
        changed.Clear()
        changed.CopyFrom(TensorProto(name=tensor, dims=dims, data_type=kind))
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        changed.raw_data = np.zeros(dims, dtype).tobytes()

    return edit


REFUSED = {
    "bits": (_attribute("bits", 2), r"2 bits in blocks of 32; this version reads \(4, 8\)"),
    "other bits": (_attribute("bits", 8), "values': .* of UINT8, expected 4096 of UINT8"),
    "block": (_attribute("block_size", 24), "4 bits in blocks of 24"),
    "other block": (_attribute("block_size", 16), "scales': .* expected a float for each of 64"),
    "no block": (_attribute("block_size", 0), "4 bits in blocks of 0"),
    "rows": (_attribute("N", 63), "expected 2016 of UINT8"),
    "no rows": (_attribute("N", 0), "a weight of 0 x 64"),
    "many rows": (_attribute("N", 2**62), "a weight of 4611686018427387904 x 64"),
    "columns": (_attribute("K", 128), "expected 4096 of UINT8"),
    "negative": (_attribute("K", -64), "a weight of 64 x -64"),
    "prepacked": (_attribute("weight_prepacked", 1), "attribute 'weight_prepacked' is not known"),
    "type": (_dims("head values", [VOCAB, 64], TensorProto.INT32), "of INT32, expected"),
    "scales": (_dims("head scales", [VOCAB, 2]), "of UINT8, expected a float for each"),
    "points": (
        _dims("head points", [VOCAB, 2], TensorProto.FLOAT),
        r"'head points': \[320, 2\] of FLOAT, expected 320 of UINT8",
    ),
    "many points": (_dims("head points", [VOCAB, 2]), "expected 320 of UINT8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_blocks_that_contradict_their_node_are_refused(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(has_zero_points=True, edit=edit))


@pytest.mark.parametrize("position", [4, 5], ids=["an order of columns", "a bias"])
def test_more_than_zero_points_is_refused(tmp_path: Path, position: int) -> None:
    def edit(model: ModelProto) -> None:
        changed = node(model, "MatMulNBits")
        changed.input.extend([""] * (position + 1 - len(changed.input)))
        changed.input[position] = "norm"

    with pytest.raises(ModelError, match=rf"input {position} \('norm'\) is not known"):
        find_decoder(tmp_path, TinyGenai(edit=edit))


def test_floats_that_are_no_matrix_are_refused(tmp_path: Path) -> None:
    for dims in ([64], [4, 16, 1], [0, 64]):
        with pytest.raises(ModelError, match="are no matrix of floats"):
            find_decoder(tmp_path, TinyGenai(bits=32, edit=_dims("head", dims, TensorProto.FLOAT)))


def test_weights_that_are_made_by_operations_are_refused(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        dequantize = helper.make_node("DequantizeLinear", ["q", "s"], ["made"], "dequantize")
        for name in "qs":
            model.graph.initializer.add(name=name)
        model.graph.node.insert(0, dequantize)
        node(model, "MatMul").input[1] = "made"

    with pytest.raises(ModelError, match="its weight is made by DequantizeLinear, which this"):
        find_decoder(tmp_path, TinyGenai(bits=32, edit=edit))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("gather_axis", 1, "looks up along other axes"),
        ("quantize_axis", 0, "looks up along other axes"),
        ("bits", 3, r"looks up in \[320, 32\] bytes of 3-bit values"),
        ("bits", 8, "expected a float for each of 320 x 1 blocks"),
        ("transposed", 1, "attribute 'transposed' is not known"),
    ],
)
def test_another_look_up_of_blocks_is_refused(
    tmp_path: Path, name: str, value: int, problem: str
) -> None:
    def edit(model: ModelProto) -> None:
        set_attribute(node(model, "GatherBlockQuantized"), name, value)

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))


def test_a_look_up_in_two_dimensions_needs_no_reshape(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        initializer(model, "embedding values").dims[:] = [VOCAB, HIDDEN // 2]
        model.graph.node.remove(node(model, "Reshape"))
        node(model, "GatherBlockQuantized").input[0] = "embedding values"

    decoder = find_decoder(tmp_path, TinyGenai(embedding="blocks", edit=edit))

    assert (decoder.embedding.rows, decoder.embedding.columns) == (VOCAB, HIDDEN)
