"""The tokenizer of a Hugging Face directory: kept as it is, or refused."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_tokenizer import FILE_NAME, MAX_BYTES, read_tokenizer
from edge_agent.text.tokenizer import Tokenizer
from tests.importers import tiny_hf
from tests.importers.tiny_hf import CONTROL, VOCAB

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, definition: Any) -> Directory:
    (directory / FILE_NAME).write_text(json.dumps(definition))
    return Directory(directory)


def changed(**changes: Any) -> dict[str, Any]:
    """Return the tiny definition with fields changed, of the model those named `model_…`."""
    definition = tiny_hf.tokenizer()
    for name, value in changes.items():
        if name.startswith("model_"):
            definition["model"][name.removeprefix("model_")] = value
        else:
            definition[name] = value
    return definition


def test_the_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(tiny_hf.tokenizer(), indent=3))

    found = read_tokenizer(Directory(tmp_path), VOCAB)

    assert found.content == (tmp_path / FILE_NAME).read_bytes()
    assert found.ids["hello"] == 259
    assert {token: found.ids[token] for token in CONTROL} == CONTROL
    assert found.tokenizer.encode("hello") == [259]


def test_an_added_token_need_not_stand_in_the_vocabulary(tmp_path: Path) -> None:
    definition = tiny_hf.tokenizer()
    for token in CONTROL:
        del definition["model"]["vocab"][token]

    found = read_tokenizer(write(tmp_path, definition), VOCAB)

    assert {token: found.ids[token] for token in CONTROL} == CONTROL


def test_settings_that_would_cut_or_pad_every_text_are_taken_out(tmp_path: Path) -> None:
    truncation = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    padding = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    where = write(tmp_path, changed(truncation=truncation, padding=padding))

    found = read_tokenizer(where, VOCAB)

    assert json.loads(found.content) == tiny_hf.tokenizer()
    assert Tokenizer(found.content).encode("hello hello w") == [259, 220, 259, 260]


@pytest.mark.parametrize(
    ("definition", "vocab", "problem"),
    [
        ([], VOCAB, "does not load"),
        ({}, VOCAB, "does not load"),
        (changed(model_type="Unigram"), VOCAB, "does not load"),
        (changed(model_merges=["q x"]), VOCAB, "does not load"),
        (changed(decoder={"type": "Fuse"}), VOCAB, "not byte-level BPE"),
        (changed(decoder=None), VOCAB, "not byte-level BPE"),
        (changed(model_dropout=0.1), VOCAB, "a dropout of 0.1"),
        (tiny_hf.tokenizer(), 304, "token '<|system|>' has the id 304, the embedding 304 rows"),
        (
            changed(model_vocab=tiny_hf.tokenizer()["model"]["vocab"] | {"hello!": 1 << 31}),
            VOCAB,
            "token 'hello!' has the id 2147483648, the embedding 320 rows",
        ),
        (
            changed(model_vocab=tiny_hf.tokenizer()["model"]["vocab"] | {"hello!": 259}),
            VOCAB,
            "tokens 'hello' and 'hello!' have the same id 259",
        ),
        (
            changed(model_vocab=tiny_hf.tokenizer()["model"]["vocab"] | {"<|end|>": 311}),
            VOCAB,
            "token '<|end|>' has the ids 311 and 302",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, definition: Any, vocab: int, problem: str) -> None:
    with pytest.raises(ModelError, match=r"^tokenizer\.json: ") as caught:
        read_tokenizer(write(tmp_path, definition), vocab)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
        {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0},
    ],
)
def test_another_kind_of_model_is_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    where = write(tmp_path, changed(model=model, added_tokens=[]))

    with pytest.raises(ModelError, match=r"^tokenizer\.json: .*not byte-level BPE"):
        read_tokenizer(where, VOCAB)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    with pytest.raises(ModelError, match=r"tokenizer\.json: .* the limit is"):
        read_tokenizer(Directory(tmp_path), VOCAB)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), max_size=4))
def test_damaged_bytes_are_read_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(json.dumps(tiny_hf.tokenizer()).encode())
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / FILE_NAME).write_bytes(data)

    with contextlib.suppress(ModelError):
        read_tokenizer(Directory(tmp_path), VOCAB)
