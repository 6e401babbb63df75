"""Text is text: whatever a user writes, no control token comes out."""

import json
from pathlib import Path
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


def made(**parts: Any) -> Tokenizer:
    return Tokenizer(json.dumps(definition() | parts).encode())


TOKENIZER = made()


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


def test_control_tokens_take_in_the_white_space_that_belongs_to_them() -> None:
    tokens = [
        {"id": 300, "content": "<|a|>", "rstrip": True},
        {"id": 301, "content": "<|b|>", "lstrip": True},
        {"id": 302, "content": "<|c|>"},
    ]
    parts = list(made(added_tokens=tokens).split_control("<|a|>\n x <|b|> y <|c|> "))

    assert parts == ["", 300, "x", 301, " y ", 302, " "]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "tokenizer"),
        (b"[]", "tokenizer"),
        (b"{}", "model"),
        (b'{"model": {"type": "Unigram"}, "decoder": {"type": "Metaspace"}}', "Unigram/Metaspace"),
        (b'{"model": {"type": "BPE"}, "decoder": null}', "BPE/None"),
        (b'{"model": {"type": "BPE"}, "decoder": {"type": "ByteLevel"}}', "vocab"),
    ],
)
def test_what_is_no_byte_level_bpe_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        Tokenizer(content)


@pytest.mark.parametrize("token_id", [-1, 1 << 20, 1 << 40])
def test_ids_that_are_no_rows_are_refused(token_id: int) -> None:
    with pytest.raises(ModelError, match="the limit is 1048575"):
        made(model=definition()["model"] | {"vocab": {"a": token_id}})


def test_a_damaged_definition_is_refused() -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        made(pre_tokenizer={"type": "ByteLevel"})


def test_a_vocabulary_whose_text_becomes_a_control_token_is_refused() -> None:
    with pytest.raises(ModelError, match="plain text 'hi' becomes a control token"):
        made(added_tokens=[{"id": 256, "content": "hi"}])


def test_a_file_is_named_when_it_cannot_be_used(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path / "empty.json"):
        if path.stem == "empty":
            path.touch()
        with pytest.raises(ModelError, match=path.name):
            Tokenizer.load(path)


def test_the_longest_token_is_known_where_text_stays_as_it_is() -> None:
    assert TOKENIZER.longest_token_bytes == 2
    assert made(normalizer={"type": "NFC"}).longest_token_bytes is None


@given(st.text(max_size=200))
def test_no_text_has_fewer_tokens_than_the_longest_allows(text: str) -> None:
    assert len(TOKENIZER.encode(text)) * 2 >= len(text.encode())
