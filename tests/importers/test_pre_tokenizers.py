"""How text is cut before merges, on words of which the families differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from edge_agent.importers.pre_tokenizers import PRE_TOKENIZERS
from edge_agent.text.tokenizer import byte_alphabet


def pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    definition: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[name].definition,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    loaded: pre_tokenizers.PreTokenizer = Tokenizer.from_str(json.dumps(definition)).pre_tokenizer
    return loaded


def pieces(name: str, text: str) -> list[str]:
    """Return the pieces of `text`, as text."""
    alphabet = byte_alphabet()
    found = pre_tokenizer(name).pre_tokenize_str(text)
    return [piece.translate(alphabet).encode("latin-1").decode() for piece, _ in found]


# "|" between the pieces.
TEXT = "It's 12345 HelloWorld'LL (ok)\n\n   x"
CUTS = {
    "gpt-2": "It|'s| 12345| HelloWorld|'|LL| (|ok|)|\n\n  | x",
    "smollm": "It|'s| |1|2|3|4|5| HelloWorld|'|LL| (|ok|)|\n\n  | x",
    "llama-bpe": "It|'s| |123|45| HelloWorld|'LL| (|ok|)\n\n|  | x",
    "qwen2": "It|'s| |1|2|3|4|5| HelloWorld|'LL| (|ok|)\n\n|  | x",
    "gpt-4o": "It's| |123|45| Hello|World'LL| (|ok|)\n\n|  | x",
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_each_family_cuts_in_its_own_way(name: str) -> None:
    assert "|".join(pieces(name, TEXT)) == CUTS[name]


def test_o200k_keeps_slashes_and_marks_together() -> None:
    assert pieces("gpt-4o", "a//\n ÀÉ́bc ") == ["a", "//\n", " ÀÉ́bc", " "]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=st.text(max_size=40))
def test_nothing_is_lost(name: str, text: str) -> None:
    assert "".join(pieces(name, text)) == text
