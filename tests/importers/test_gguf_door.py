"""Whole GGUF files through their door: facts, weights in the decoder's order, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.importers.source import Blocks, check
from edge_agent.modelstore.manifest import Shape
from tests.importers.tiny_gguf import (
    ATTENTION_FACTOR,
    CONTEXT,
    LAYERS,
    ORIGINAL_CONTEXT,
    SIZES,
    TEMPLATE,
    THETA,
    TinyModel,
    vocabulary,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.importers.source import Model

    Floats = NDArray[np.float32]


def floats(model: Model, name: str) -> Floats:
    product = next(product for product in model.products if product.name == name)
    return np.concatenate([part.floats(0, part.rows) for part in product.parts])


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_facts_are_those_of_the_file(tmp_path: Path, architecture: str) -> None:
    TinyModel(architecture=architecture).write(tmp_path / "tiny.gguf")
    sizes = SIZES[architecture]

    with open_gguf(tmp_path / "tiny.gguf") as model:
        check(model)
        assert model.shape == Shape(
            layers=LAYERS,
            hidden=sizes.hidden,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            intermediate=sizes.intermediate,
            vocab=len(vocabulary()),
            norm_eps=float(np.float32(1e-5)),
        )
        assert (model.context, model.chat_template) == (CONTEXT, TEMPLATE)
        assert model.stop_token_ids == (0, 2)
        assert (model.rope.theta, model.rope.dims) == (THETA, sizes.rotated)


@pytest.mark.parametrize(
    "kind",
    ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"],
)
def test_a_phi_has_the_rows_of_the_file_in_order(tmp_path: Path, kind: str) -> None:
    stored = TinyModel(architecture="phi3", kinds={"": kind}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        pairs = {"embedding": "token_embd"}
        for layer in range(LAYERS):
            pairs |= {
                f"layers.{layer}.qkv": f"blk.{layer}.attn_qkv",
                f"layers.{layer}.o": f"blk.{layer}.attn_output",
                f"layers.{layer}.gate_up": f"blk.{layer}.ffn_up",
                f"layers.{layer}.down": f"blk.{layer}.ffn_down",
            }
        assert {product.name for product in model.products} == set(pairs)
        for name, tensor in pairs.items():
            np.testing.assert_array_equal(floats(model, name), stored[f"{tensor}.weight"])
        for name, norm in model.norms.items():
            np.testing.assert_array_equal(norm.floats(0, 1)[0], stored[norm.name])
            assert norm.name == {"norm": "output_norm.weight"}.get(
                name, name.replace("layers.", "blk.") + ".weight"
            )


def test_a_phi_is_rotated_by_long_rope(tmp_path: Path) -> None:
    stored = TinyModel(architecture="phi3").write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        assert model.rope.original_context == ORIGINAL_CONTEXT
        assert model.rope.attention_factor == float(np.float32(ATTENTION_FACTOR))
        for found, name in ((model.rope.short_factors, "short"), (model.rope.long_factors, "long")):
            np.testing.assert_array_equal(found, stored[f"rope_factors_{name}.weight"])


def test_a_phi_without_factors_is_rotated_plainly(tmp_path: Path) -> None:
    plain = TinyModel(
        architecture="phi3",
        omit=("rope_factors_short.weight", "rope_factors_long.weight"),
        metadata={
            "phi3.rope.scaling.original_context_length": None,
            "phi3.rope.scaling.attn_factor": None,
            "phi3.attention.sliding_window": None,
        },
    )
    plain.write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        assert model.rope.original_context == CONTEXT
        assert (model.rope.short_factors, model.rope.long_factors) == ((), ())
        assert model.rope.attention_factor == 1.0


def test_a_llama_has_its_heads_back_in_halves(tmp_path: Path) -> None:
    stored = TinyModel().write(tmp_path / "tiny.gguf")
    sizes = SIZES["llama"]

    with open_gguf(tmp_path / "tiny.gguf") as model:
        qkv = floats(model, "layers.1.qkv")
        gate_up = floats(model, "layers.1.gate_up")

    half = sizes.head_dim // 2
    row = 0
    for name, heads in (("attn_q", sizes.heads), ("attn_k", sizes.kv_heads)):
        for head in stored[f"blk.1.{name}.weight"].reshape(heads, sizes.head_dim, -1):
            for pair in range(half):
                np.testing.assert_array_equal(qkv[row + pair], head[2 * pair])
                np.testing.assert_array_equal(qkv[row + half + pair], head[2 * pair + 1])
            row += sizes.head_dim
    np.testing.assert_array_equal(qkv[row:], stored["blk.1.attn_v.weight"])
    gate, up = np.split(gate_up, 2)
    np.testing.assert_array_equal(gate, stored["blk.1.ffn_gate.weight"])
    np.testing.assert_array_equal(up, stored["blk.1.ffn_up.weight"])


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q8_0"])
def test_rows_are_the_same_however_they_are_cut(tmp_path: Path, kind: str) -> None:
    TinyModel(kinds={"": kind}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        query = next(p for p in model.products if p.name == "layers.0.qkv").parts[0]
        whole = query.floats(0, query.rows)
        for step in (1, 5, query.rows):
            starts = range(0, query.rows, step)
            pieces = [query.floats(row, min(row + step, query.rows)) for row in starts]
            np.testing.assert_array_equal(np.concatenate(pieces), whole)
            if query.blocks is not None:
                exact = [query.packed(row, min(row + step, query.rows)) for row in starts]
                np.testing.assert_array_equal(
                    np.concatenate([packed.floats() for packed in exact]), whole
                )


def test_blocks_are_offered_where_nothing_is_lost(tmp_path: Path) -> None:
    kinds = {"token_embd": "Q8_0", "attn_q": "Q4_0", "attn_k": "Q4_1", "": "Q5_0"}
    TinyModel(kinds=kinds).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        found = {
            product.name: [part.blocks for part in product.parts] for product in model.products
        }

    four = Blocks(bits=4, block=32)
    assert found["embedding"] == [Blocks(bits=8, block=32)]
    assert found["layers.0.qkv"] == [four, Blocks(bits=4, block=32, has_offsets=True), None]
    assert found["layers.0.down"] == [None]


def test_a_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    more = {"output.weight": np.ones((len(vocabulary()), 64), np.float32)}
    TinyModel(more=more).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        assert (floats(model, "head") == 1).all()


def test_factors_of_a_llama_hold_for_all_lengths(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    TinyModel(more={"rope_freqs.weight": factors}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        np.testing.assert_array_equal(model.rope.short_factors, factors)
        assert model.rope.long_factors == ()
        assert model.rope.original_context == CONTEXT


def test_an_embedding_may_have_more_rows_than_tokens(tmp_path: Path) -> None:
    more = {"token_embd.weight": np.ones((300, 64), np.float32)}
    TinyModel(more=more).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        assert model.shape.vocab == 300


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"llama.embedding_length": 128, "llama.attention.head_count": 8},
            "tensor 'token_embd.weight' is 264 x 64, expected 264 x 128",
        ),
        ({"llama.embedding_length": 1 << 31}, "impossible dimensions"),
        ({"llama.attention.head_count": 0}, "impossible dimensions"),
        ({"llama.attention.head_count_kv": 0}, "impossible dimensions"),
        ({"llama.attention.head_count_kv": 3}, "impossible dimensions"),
        ({"llama.attention.key_length": 15}, "impossible dimensions"),
        ({"llama.attention.value_length": 8}, "values of 8 dims beside keys of 16"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "impossible dimensions"),
        ({"llama.block_count": 0}, "impossible dimensions"),
        ({"llama.block_count": 1 << 30}, "impossible dimensions"),
        ({"llama.block_count": 3}, "'blk.2.attn_q.weight' is missing"),
        ({"llama.block_count": 1}, "would ignore: blk.1"),
        ({"llama.feed_forward_length": 95}, "is 96 x 64, expected 95 x 64"),
        ({"llama.context_length": "long"}, "'llama.context_length': str, not int"),
        ({"llama.context_length": 0}, "impossible context of 0 tokens"),
        ({"llama.context_length": 1 << 25}, "impossible context"),
        ({"llama.rope.freq_base": 0.0}, "impossible rope.freq_base"),
        ({"llama.rope.freq_base": float("inf")}, "impossible rope.freq_base"),
        ({"llama.rope.dimension_count": 8}, "8 rotated dims of 16"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = 'yarn' is not supported"),
        ({"llama.rope.scaling.type": "linear"}, "llama.rope.scaling.type = 'linear'"),
        ({"llama.rope.scaling.factor": 4.0}, "llama.rope.scaling.factor = 4.0"),
        ({"llama.rope.scale_linear": [1, 2]}, "llama.rope.scale_linear"),
        ({"llama.attention.sliding_window": 4096}, "llama.attention.sliding_window = 4096"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8 is not supported"),
    ],
)
def test_a_llama_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    TinyModel(metadata=changes).write(tmp_path / "tiny.gguf")

    with (
        pytest.raises(ModelError, match=r"^tiny\.gguf: ") as caught,
        open_gguf(tmp_path / "tiny.gguf"),
    ):
        pass

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"phi3.attention.sliding_window": 32}, "sliding window of 32 tokens in a context of 64"),
        ({"phi3.rope.dimension_count": 66}, "impossible rotation: 66 dims of 64"),
        ({"phi3.rope.dimension_count": 0}, "impossible rotation: 0 dims"),
        ({"phi3.rope.dimension_count": 47}, "impossible rotation: 47 dims"),
        (
            {"phi3.rope.dimension_count": 64},
            "'rope_factors_short.weight' is 1 x 24, expected 1 x 32",
        ),
        ({"phi3.rope.scaling.original_context_length": 128}, "original context 128 of 64"),
        ({"phi3.rope.scaling.original_context_length": 0}, "original context 0 of 64"),
        ({"phi3.rope.scaling.attn_factor": None}, "'phi3.rope.scaling.attn_factor' is missing"),
        ({"phi3.rope.scaling.attn_factor": 0.0}, "impossible rope.scaling.attn_factor"),
        ({"phi3.rope.scaling.attn_factor": float("nan")}, "impossible rope.scaling.attn_factor"),
        ({"phi3.expert_count": 16}, "phi3.expert_count = 16 is not supported"),
        ({"phi3.feed_forward_length": 128}, "'blk.0.ffn_up.weight' is 512 x 256, expected 256"),
        (
            {"phi3.attention.head_count_kv": None},
            "'blk.0.attn_qkv.weight' is 512 x 256, expected 768",
        ),
    ],
)
def test_a_phi_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    TinyModel(architecture="phi3", metadata=changes).write(tmp_path / "tiny.gguf")

    with pytest.raises(ModelError) as caught, open_gguf(tmp_path / "tiny.gguf"):
        pass

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"output_norm.weight": zeros(32)}, "'output_norm.weight' is 1 x 32, expected 1 x 64"),
        ({"blk.0.attn_q.weight": zeros(32, 64)}, "'blk.0.attn_q.weight' is 32 x 64, expected 64"),
        ({"rope_freqs.weight": zeros(8)}, "'rope_freqs.weight' holds 0.0, expected factors above"),
        ({"rope_freqs.weight": zeros(4)}, "'rope_freqs.weight' is 1 x 4, expected 1 x 8"),
        ({"blk.0.attn_q.bias": zeros(64)}, "would ignore: blk.0.attn_q.bias"),
        ({"blk.0.attn_qkv.weight": zeros(128, 64)}, "would ignore: blk.0.attn_qkv.weight"),
    ],
)
def test_a_tensor_of_another_shape_or_name_is_named(
    tmp_path: Path, more: dict[str, Floats], problem: str
) -> None:
    TinyModel(more=more).write(tmp_path / "tiny.gguf")

    with pytest.raises(ModelError) as caught, open_gguf(tmp_path / "tiny.gguf"):
        pass

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "omitted"),
    [
        ("llama", "output_norm.weight"),
        ("llama", "token_embd.weight"),
        ("llama", "blk.1.ffn_down.weight"),
        ("phi3", "blk.0.attn_qkv.weight"),
        ("phi3", "rope_factors_long.weight"),
        ("phi3", "rope_factors_short.weight"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, architecture: str, omitted: str) -> None:
    TinyModel(architecture=architecture, omit=(omitted,)).write(tmp_path / "tiny.gguf")

    with (
        pytest.raises(ModelError, match=f"'{omitted}' is missing"),
        open_gguf(tmp_path / "tiny.gguf"),
    ):
        pass


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel().write(path)
    path.write_bytes(path.read_bytes().replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma"))

    with (
        pytest.raises(ModelError, match=r"architecture 'gemma' .* it reads llama, phi3"),
        open_gguf(path),
    ):
        pass


def test_infinity_is_refused_with_the_name_of_its_tensor(tmp_path: Path) -> None:
    norm = np.full(64, np.inf, np.float32)
    TinyModel(more={"blk.1.ffn_norm.weight": norm}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model, pytest.raises(ModelError) as caught:
        model.norms["layers.1.ffn_norm"].floats(0, 1)

    assert str(caught.value) == (
        "tiny.gguf: tensor 'blk.1.ffn_norm.weight': F32 weights hold infinity or NaN"
    )


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel().write(path)

    with open_gguf(path) as model:
        with path.open("r+b") as file:
            file.truncate(20_000)
        with pytest.raises(ModelError, match="cut short: tensor"):
            floats(model, "layers.1.down")
