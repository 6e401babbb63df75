"""The phi3 architecture: fused rows in order, LongRoPE, and what it cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf
from tests.importers.tiny_gguf import (
    ATTENTION_FACTOR,
    CONTEXT,
    LAYERS,
    ORIGINAL_CONTEXT,
    TinyModel,
    rows_of,
)

if TYPE_CHECKING:
    from pathlib import Path


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
            np.testing.assert_array_equal(rows_of(model, name), stored[f"{tensor}.weight"])
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
