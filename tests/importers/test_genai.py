"""A package becomes a model: weights to the last bit, ties found, facts proven, damage named."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.genai import open_genai
from edge_agent.importers.source import Blocks, Model
from edge_agent.messages import Sampling
from tests.importers import tiny_hf
from tests.importers.tiny_genai import (
    ATTENTION_FACTOR,
    CONTEXT,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KV_HEADS,
    LONG_FACTORS,
    ORIGINAL_CONTEXT,
    PAIRS,
    SHORT_FACTORS,
    THETA,
    VOCAB,
    TinyGenai,
    initializer,
    node,
    set_attribute,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": CONTEXT,
    "original_max_position_embeddings": ORIGINAL_CONTEXT,
    "partial_rotary_factor": 2 * PAIRS / HEAD_DIM,
    "rope_theta": THETA,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": SHORT_FACTORS,
        "long_factor": LONG_FACTORS,
    },
    "eos_token_id": 300,
    "tie_word_embeddings": True,
}


def floats(model: Model) -> dict[str, NDArray[np.float32]]:
    """Return all weights of `model`."""
    products = {
        product.name: np.concatenate([part.floats(0, part.rows) for part in product.parts])
        for product in model.products
    }
    return products | {name: part.floats(0, 1)[0] for name, part in model.norms.items()}


def configure(directory: Path, **changes: object) -> None:
    """Write a `config.json` into `directory`."""
    (directory / "config.json").write_text(json.dumps(CONFIG | changes))


@pytest.mark.parametrize(
    "tiny",
    [
        TinyGenai(),
        TinyGenai(bits=8),
        TinyGenai(bits=32),
        TinyGenai(has_zero_points=True),
        TinyGenai(bits=8, has_zero_points=True, block=16),
        TinyGenai(scales=np.float16),
        TinyGenai(is_fused=True),
        TinyGenai(is_fused=True, bits=32),
        TinyGenai(embedding="blocks", has_zero_points=True),
        TinyGenai(embedding="unlike"),
        TinyGenai(block=128),
        TinyGenai(block=64, has_zero_points=True),  # rows of one and of one and a half blocks
    ],
    ids=str,
)
def test_every_weight_comes_through_exactly(tmp_path: Path, tiny: TinyGenai) -> None:
    expected = tiny.write(tmp_path)

    with open_genai(tmp_path) as model:
        found = floats(model)

    if "head" not in found:
        expected["embedding"] = expected.pop("head")
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], name, strict=True)


@pytest.mark.parametrize("has_zero_points", [False, True])
def test_blocks_are_carried_over_where_rows_are_whole_blocks(
    tmp_path: Path, has_zero_points: bool
) -> None:
    TinyGenai(block=64, has_zero_points=has_zero_points).write(tmp_path)

    with open_genai(tmp_path) as model:
        kinds = {product.name: product.parts[0].blocks for product in model.products}

    assert kinds["layers.0.qkv"] == Blocks(bits=4, block=64, has_zero_points=has_zero_points)
    assert kinds["layers.0.down"] is None  # 96 columns


def test_the_facts_of_the_graph_are_those_of_the_model(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)

    with open_genai(tmp_path) as model:
        shape, rope = model.shape, model.rope
        assert model.context == CONTEXT
        assert model.stop_token_ids == (300, 301, 302, 303, 304)
        assert model.sampling == Sampling()
        assert json.loads(model.tokenizer) == tiny_hf.tokenizer()

    assert (shape.hidden, shape.heads, shape.kv_heads) == (HIDDEN, HEADS, KV_HEADS)
    assert (shape.head_dim, shape.intermediate, shape.vocab) == (HEAD_DIM, INTERMEDIATE, VOCAB)
    assert shape.norm_eps == 1e-5
    assert (rope.theta, rope.original_context) == (THETA, ORIGINAL_CONTEXT)
    np.testing.assert_allclose(rope.short_factors, SHORT_FACTORS, rtol=2e-7)
    np.testing.assert_allclose(rope.long_factors, LONG_FACTORS, rtol=2e-7)
    assert rope.attention_factor == ATTENTION_FACTOR


def test_a_model_that_samples_says_how(tmp_path: Path) -> None:
    def samples(config: dict[str, Any]) -> None:
        config["search"]["do_sample"] = True
        config["model"]["eos_token_id"] = [302, 5]

    TinyGenai(config=samples).write(tmp_path)

    with open_genai(tmp_path) as model:
        assert model.sampling == Sampling(temperature=0.7, top_k=40, top_p=0.9)
        assert model.stop_token_ids == (5, 300, 301, 302, 303, 304)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_float_embedding_of_a_tied_model_is_left_out(tmp_path: Path, bits: Any) -> None:
    weights = TinyGenai(bits=bits, embedding="float").write(tmp_path)

    with open_genai(tmp_path) as model:
        found = floats(model)

    assert "head" not in found
    np.testing.assert_array_equal(found["embedding"], weights["head"])


def test_an_embedding_of_another_size_than_the_head_is_refused(tmp_path: Path) -> None:
    def shorter(model: ModelProto) -> None:
        stored = initializer(model, "embedding")
        stored.dims[0] = VOCAB - 1
        del stored.external_data[2:]  # the length

    TinyGenai(embedding="float", edit=shorter).write(tmp_path)

    with pytest.raises(ModelError, match=r"embedding: weights of \[\(319, 64\)\], expected rows"):
        open_genai(tmp_path).__enter__()


def test_what_the_configuration_says_of_ties_counts_more_than_likeness(tmp_path: Path) -> None:
    weights = TinyGenai(embedding="float").write(tmp_path)
    configure(tmp_path, tie_word_embeddings=False)

    with open_genai(tmp_path) as model:
        found = floats(model)

    np.testing.assert_array_equal(found["embedding"], weights["embedding"])
    np.testing.assert_array_equal(found["head"], weights["head"])


def test_a_configuration_states_the_rotation(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    configure(tmp_path, eos_token_id=[7])

    with open_genai(tmp_path) as model:
        assert model.rope.long_factors == LONG_FACTORS
        assert model.stop_token_ids == (7, 300, 301, 302, 303, 304)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"intermediate_size": 128}, r"config\.json states .*intermediate=128"),
        ({"rms_norm_eps": 1e-6}, r"config\.json states .*norm_eps=1e-06"),
        ({"max_position_embeddings": 512, "sliding_window": None}, r"config\.json states"),
        ({"rope_theta": 5e5}, "not those that config.json states"),
        ({"architectures": ["MixtralForCausalLM"]}, r"config\.json: architectures"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    TinyGenai().write(tmp_path)
    configure(tmp_path, **changes)

    with pytest.raises(ModelError, match=problem), open_genai(tmp_path):
        pass


def test_a_window_smaller_than_the_context_is_refused(tmp_path: Path) -> None:
    def window(size: int) -> TinyGenai:
        def edit(model: ModelProto) -> None:
            for index in range(2):
                attention = node(model, "GroupQueryAttention", index)
                set_attribute(attention, "local_window_size", size)
                set_attribute(attention, "sliding_window_cache", 1)

        return TinyGenai(edit=edit)

    window(CONTEXT).write(tmp_path)
    with open_genai(tmp_path):
        pass

    window(CONTEXT - 1).write(tmp_path)
    with pytest.raises(ModelError, match="a window of 127 tokens in a context of 128"):
        open_genai(tmp_path).__enter__()


@pytest.mark.parametrize(
    "name", ["genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json"]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    TinyGenai().write(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ModelError, match=name), open_genai(tmp_path):
        pass


def test_data_that_is_cut_short_is_noticed_before_anything_is_imported(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    data = tmp_path / "model.onnx.data"
    os.truncate(data, data.stat().st_size - 1)

    with pytest.raises(ModelError, match=r"of model\.onnx\.data, which has"), open_genai(tmp_path):
        pass


def test_a_scale_that_is_no_number_is_named(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    with open_genai(tmp_path) as model:
        scales = model.products[0].parts[0].weight.scales  # type: ignore[attr-defined]
    with (tmp_path / "model.onnx.data").open("r+b") as file:
        file.seek(scales.offset)
        file.write(np.float32(np.nan).tobytes())

    with open_genai(tmp_path) as model:
        part = model.products[0].parts[0]
        for read in (part.floats, part.packed):
            with pytest.raises(ModelError, match="'head scales': number 0 is infinity or NaN"):
                read(0, 1)
        part.packed(1, 2)


@given(st.data())
def test_a_damaged_graph_is_read_as_a_model_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("model")
    TinyGenai(layers=1, has_zero_points=True, is_long=False).write(directory)
    path = directory / "model.onnx"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    _read_if_possible(directory)


@given(st.data())
def test_a_bent_graph_is_read_as_a_model_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    def bend(model: ModelProto) -> None:
        graph = model.graph
        values = [name for one in graph.node for name in (*one.input, *one.output)]
        for _ in range(data.draw(st.integers(1, 3))):
            bent = graph.node[data.draw(st.integers(0, len(graph.node) - 1))]
            match data.draw(st.sampled_from(["op", "input", "attribute", "less", "more"])):
                case "op":
                    bent.op_type = graph.node[
                        data.draw(st.integers(0, len(graph.node) - 1))
                    ].op_type
                case "input" if bent.input:
                    index = data.draw(st.integers(0, len(bent.input) - 1))
                    bent.input[index] = data.draw(st.sampled_from(values))
                case "attribute" if bent.attribute:
                    changed = data.draw(st.sampled_from(list(bent.attribute)))
                    changed.i = data.draw(st.integers(-(2**63), 2**63 - 1))
                    changed.f = data.draw(st.floats(width=32))
                case "less":
                    del bent.input[-1:]
                case _:
                    bent.input.append(data.draw(st.sampled_from(values)))

    directory = tmp_path_factory.mktemp("model")
    TinyGenai(layers=1, has_zero_points=True, edit=bend).write(directory)

    _read_if_possible(directory)


def _read_if_possible(directory: Path) -> None:
    with suppress(ModelError), open_genai(directory) as model:
        for product in model.products:
            for part in product.parts:
                assert part.floats(0, 1).shape == (1, product.columns)
