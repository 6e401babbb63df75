"""Attention is that of our decoder, or it is refused by what it does otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from tests.importers.bent_genai import GQA, attribute, input_of, other_op, swap_outputs
from tests.importers.tiny_genai import HEAD_DIM, HEADS, KV_HEADS, TinyGenai, find_decoder

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = {
    "no rotation": (attribute(GQA, "do_rotary", 0), "do_rotary is 0; this version reads 1"),
    "interleaved": (attribute(GQA, "rotary_interleaved", 1), "rotary_interleaved is 1"),
    "smooth softmax": (attribute(GQA, "smooth_softmax", 1), "smooth_softmax is 1"),
    "capped scores": (attribute(GQA, "softcap", 50.0), "softcap"),
    "8-bit cache": (attribute(GQA, "k_quant_type", "PER_TENSOR"), "attribute 'k_quant_type' is n"),
    "a text for a number": (attribute(GQA, "num_heads", "two"), "is not the integer"),
    "an integer for a float": (attribute(GQA, "scale", 1), "is not the number"),
    "layers that differ": (attribute(GQA, "local_window_size", 64), "while another layer has"),
    "positions": (input_of(GQA, 9, "ids"), r"input 9 \('ids'\) is not known"),
    "sinks": (input_of(GQA, 11, "norm"), r"input 11 \('norm'\) is not known"),
    "a cache made here": (input_of(GQA, 3, "embedded"), "its cache 'embedded' is no input of the"),
    "a shared cache": (
        input_of(GQA, 4, "past.1.v"),
        r"its cache 'past\.1\.v' is .*that of another",
    ),
    "other queries": (input_of("MatMulNBits", 0, "embedded"), "parts are made of different values"),
    "multi-head attention": (
        other_op(GQA, "MultiHeadAttention"),
        "MultiHeadAttention '/attended 0'",
    ),
    "keys for the result": (swap_outputs(GQA, 1), "as if it were the first"),
}


def test_what_all_layers_have_in_common_is_read(tmp_path: Path) -> None:
    attention = find_decoder(tmp_path, TinyGenai()).attention

    assert (attention.heads, attention.kv_heads, attention.window) == (HEADS, KV_HEADS, -1)
    assert attention.scale == pytest.approx(HEAD_DIM**-0.5)
    assert (attention.cos, attention.sin) == ("cos", "sin")


@pytest.mark.parametrize("case", REFUSED)
def test_attention_of_another_kind_is_refused_by_what_it_does(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))
