"""What all architectures have in common: dimensions, shapes of tensors, nothing left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf
from tests.importers.tiny_gguf import TinyModel, refusal, rows_of, vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


def test_a_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    more = {"output.weight": np.ones((len(vocabulary()), 64), np.float32)}
    TinyModel(more=more).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        assert (rows_of(model, "head") == 1).all()


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
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert problem in refusal(changes, tmp_path)


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
