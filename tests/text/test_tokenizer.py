"""Text is text: whatever a user writes, no control token comes out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.text.tokenizer import Tokenizer, byte_alphabet

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
CONTROL = {"<|im_start|>": 300, "<|im_end|>": 301, "<|im|>": 302}


def definition() -> dict[str, Any]:
    """A byte-level BPE of the 256 bytes, one merge and three control tokens; 257-299 are holes."""
    vocab = {chr(point): byte for point, byte in byte_alphabet().items()}
    added = [
        {
            "id": token_id,
            "content": content,
            "special": True,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        }
        for content, token_id in CONTROL.items()
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "vocab": vocab | {"hi": 256} | CONTROL,
            "merges": ["h i"],
            "byte_fallback": False,
            "fuse_unk": False,
        },
    }


TOKENIZER = Tokenizer(definition())


def test_merges_apply() -> None:
    assert TOKENIZER.encode("hi!") == [256, ord("!")]


@given(st.text())
def test_ids_decode_to_the_bytes_of_the_text(text: str) -> None:
    ids = TOKENIZER.encode(text)

    assert b"".join(TOKENIZER.bytes_of(i) for i in ids) == text.encode()


@given(st.lists(st.sampled_from([*CONTROL, "hi", " ", "\n", "<|", "|>"])))
def test_control_text_never_becomes_a_control_token(pieces: list[str]) -> None:
    assert not set(TOKENIZER.encode("".join(pieces))) & set(CONTROL.values())


def test_split_control_finds_the_longest_control_token() -> None:
    parts = list(TOKENIZER.split_control("<|im_start|>user\n<|im|><|im_end|>"))

    assert parts == ["", 300, "user\n", 302, "", 301, ""]


def test_holes_are_the_ids_without_a_token() -> None:
    assert TOKENIZER.holes(305) == [*range(257, 300), 303, 304]
    assert TOKENIZER.bytes_of(257) == b""


def test_a_tokenizer_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="Unigram"):
        Tokenizer({"model": {"type": "Unigram"}, "decoder": {"type": "Metaspace"}})


def test_a_damaged_definition_is_refused() -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer(definition() | {"pre_tokenizer": {"type": "ByteLevel"}})
