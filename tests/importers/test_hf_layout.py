"""Which tensors become which arrays of the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_checkpoint import open_checkpoint
from edge_agent.importers.hf_config import read_config
from edge_agent.importers.hf_layout import read_layout
from tests.importers.tiny_hf import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    VOCAB,
    TinyHf,
    random_weights,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.importers.tiny_hf import F32

Q, K = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"


def arrays(directory: Path) -> dict[str, F32]:
    """Return all arrays of the decoder, as the door for `directory` would give them."""
    where = Directory(directory)
    with open_checkpoint(where) as checkpoint:
        layout = read_layout(checkpoint, read_config(where))
        norms = {name: part.floats(0, 1)[0] for name, part in layout.norms.items()}
        products = {
            product.name: np.concatenate([part.floats(0, part.rows) for part in product.parts])
            for product in layout.products
        }
        for product in layout.products:
            assert products[product.name].shape == (product.rows, product.columns)
            assert all(part.blocks is None for part in product.parts)
    return norms | products


def zeros(*shape: int) -> F32:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("family", ["phi3", "llama"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_both_families_make_the_same_arrays(
    tmp_path: Path, family: Literal["phi3", "llama"], is_tied: bool
) -> None:
    TinyHf(family=family, is_tied=is_tied).write(tmp_path)
    weights = random_weights("phi3", 7, is_tied=is_tied)  # the fused names hold the same rows

    found = arrays(tmp_path)

    expected = {
        "embedding": weights["model.embed_tokens.weight"],
        "norm": weights["model.norm.weight"],
    }
    for layer in range(LAYERS):
        block, name = f"model.layers.{layer}", f"layers.{layer}"
        expected |= {
            f"{name}.attn_norm": weights[f"{block}.input_layernorm.weight"],
            f"{name}.qkv": weights[f"{block}.self_attn.qkv_proj.weight"],
            f"{name}.o": weights[f"{block}.self_attn.o_proj.weight"],
            f"{name}.ffn_norm": weights[f"{block}.post_attention_layernorm.weight"],
            f"{name}.gate_up": weights[f"{block}.mlp.gate_up_proj.weight"],
            f"{name}.down": weights[f"{block}.mlp.down_proj.weight"],
        }
    if not is_tied:
        expected["head"] = weights["lm_head.weight"]
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_head_that_is_tied_is_not_read_though_it_is_stored(tmp_path: Path) -> None:
    TinyHf(more={"lm_head.weight": zeros(VOCAB, HIDDEN)}).write(tmp_path)

    assert "head" not in arrays(tmp_path)


def test_frequencies_in_an_old_checkpoint_are_passed_over(tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    TinyHf(family="llama", more={name: zeros(16)}).write(tmp_path)

    assert "layers.1.qkv" in arrays(tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"omit": ("model.norm.weight",)}, "tensor 'model.norm.weight' is missing"),
        ({"omit": (K,), "family": "llama"}, f"tensor {K!r} is missing"),
        ({"is_tied": False, "omit": ("lm_head.weight",)}, "tensor 'lm_head.weight' is missing"),
        (
            {"more": {"model.norm.weight": zeros(HIDDEN + 1)}},
            f"tensor 'model.norm.weight' is [{HIDDEN + 1}], expected [{HIDDEN}]",
        ),
        ({"more": {"model.norm.weight": zeros(1, HIDDEN)}}, f"is [1, {HIDDEN}], expected"),
        (
            {"more": {"model.embed_tokens.weight": zeros(VOCAB - 1, HIDDEN)}},
            f"is [{VOCAB - 1}, {HIDDEN}], expected [{VOCAB}, {HIDDEN}]",
        ),
        (  # the right number of rows in all
            {"family": "llama", "more": {Q: zeros(64, HIDDEN), K: zeros(128, HIDDEN)}},
            f"tensor {Q!r} is [64, {HIDDEN}], expected [128, {HIDDEN}]",
        ),
        (
            {"more": {"model.layers.0.self_attn.qkv_proj.bias": zeros(256)}},
            "would ignore: model.layers.0.self_attn.qkv_proj.bias",
        ),
        ({"config": {"num_hidden_layers": 1}}, "would ignore: model.layers.1.input_layernorm"),
        ({"config": {"num_hidden_layers": 3}}, "'model.layers.2.self_attn.qkv_proj.weight' is mis"),
        ({"config": {"intermediate_size": 255}}, f"is [{2 * INTERMEDIATE}, {HIDDEN}], expected ["),
    ],
)
def test_a_checkpoint_that_is_not_as_configured_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    TinyHf(**changes).write(tmp_path)

    with pytest.raises(ModelError) as caught:
        arrays(tmp_path)
    assert problem in str(caught.value)


def test_floats_have_no_blocks_to_carry_over(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)
    where = Directory(tmp_path)

    with open_checkpoint(where) as checkpoint:
        part = read_layout(checkpoint, read_config(where)).norms["norm"]
        with pytest.raises(ModelError, match=r"'model\.norm\.weight': rows 0 to 1 are floats"):
            part.packed(0, 1)
