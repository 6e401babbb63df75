"""Phi-4-mini's own tokenizer: published values, and an independent encoder of the same ranks."""

from __future__ import annotations

import functools
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text import o200k

TOKENIZER = o200k.tokenizer()


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(o200k.path().read_bytes())
    return content


def test_the_first_merges_are_those_of_the_published_file(definition: dict[str, Any]) -> None:
    assert definition["model"]["merges"][:4] == [
        ["Ġ", "Ġ"],
        ["ĠĠ", "ĠĠ"],
        ["i", "n"],
        ["e", "r"],
    ]
    assert len(definition["model"]["merges"]) == 199_742


@pytest.mark.parametrize(
    ("text", "ids"), [("hello world", [24912, 2375]), ('[{"name":', [58, 10848, 897, 1243])]
)
def test_published_encodings(text: str, ids: list[int]) -> None:
    assert TOKENIZER.encode(text) == ids


def test_published_tokens() -> None:
    assert TOKENIZER.bytes_of(3251) == "\ufffd".encode()
    assert TOKENIZER.bytes_of(151_643) == b" przyp"


def test_the_holes_are_the_rows_without_a_token() -> None:
    assert TOKENIZER.holes(o200k.VOCAB) == [
        199_998,
        *range(200_000, 200_018),
        *range(200_029, 200_064),
    ]


@pytest.mark.parametrize("name", o200k.CONTROL)
def test_control_tokens_have_ids_but_no_text(name: str) -> None:
    token_id = o200k.CONTROL[name]

    assert TOKENIZER.control[name] == token_id
    assert TOKENIZER.bytes_of(token_id) == b""
    assert list(TOKENIZER.split_control(f"a{name}b")) == ["a", token_id, "b"]


def test_white_space_after_a_role_belongs_to_it() -> None:
    assert list(TOKENIZER.split_control("<|user|>\n Hi <|end|> ")) == [
        "",
        o200k.CONTROL["<|user|>"],
        "Hi ",
        o200k.CONTROL["<|end|>"],
        "",
    ]
    assert list(TOKENIZER.split_control("<|endoftext|> a")) == ["", 199_999, " a"]


@given(st.lists(st.sampled_from([*o200k.CONTROL, "<|", "|>", "end", " ", "\n", "/tool"])))
def test_no_text_whatever_becomes_a_control_token(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = TOKENIZER.encode(text)

    assert not set(ids) & set(o200k.CONTROL.values())
    assert b"".join(TOKENIZER.bytes_of(i) for i in ids) == text.encode()


@functools.cache
def other_encoder() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how it opens its own data
        import bpe_openai  # type: ignore[import-untyped]  # noqa: PLC0415

        return bpe_openai.get_encoding("o200k_base")


@settings(deadline=None)  # the first example loads the encoder
@given(st.text(max_size=400))
def test_another_encoder_of_the_same_ranks_gives_the_same_ids(text: str) -> None:
    assert TOKENIZER.encode(text) == other_encoder().encode_ordinary(text)
