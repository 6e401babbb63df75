"""The llama architecture: rows back in order, factors, and what it cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.importers.gguf_door import open_gguf
from tests.importers.tiny_gguf import CONTEXT, SIZES, TinyModel, refusal, rows_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_llama_has_its_heads_back_in_halves(tmp_path: Path) -> None:
    stored = TinyModel().write(tmp_path / "tiny.gguf")
    sizes = SIZES["llama"]

    with open_gguf(tmp_path / "tiny.gguf") as model:
        qkv = rows_of(model, "layers.1.qkv")
        gate_up = rows_of(model, "layers.1.gate_up")

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


def test_factors_of_a_llama_hold_for_all_lengths(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    TinyModel(more={"rope_freqs.weight": factors}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        np.testing.assert_array_equal(model.rope.short_factors, factors)
        assert model.rope.long_factors == ()
        assert model.rope.original_context == CONTEXT


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
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
    assert problem in refusal(changes, tmp_path)
