"""Phi-4-mini's whole vocabulary through a GGUF file, against the tokenizer it was taken from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.gguf_tokenizer import tokenizer_json
from edge_agent.importers.gguf_vocabulary import read_vocabulary, stop_token_ids
from tests.text import o200k

if TYPE_CHECKING:
    from pathlib import Path

NORMAL, CONTROL, UNUSED = 1, 3, 5
TEXTS = [
    "hello world",
    '[{"name":',
    "It's 12345 HelloWorld'LL (ok)\n\n   x",
    "Größe 中文 δέλτα \t\r\n  //\n👩‍👩‍👧 a",
    "<|system|>You are a helpful assistant.<|end|><|user|> \n How?<|end|><|assistant|>",
]


@pytest.fixture(scope="module")
def original() -> dict[str, Any]:
    definition: dict[str, Any] = json.loads(o200k.path().read_bytes())
    return definition


@pytest.fixture(scope="module")
def converted(original: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the vocabulary as llama.cpp's converter does; return the file."""
    names = {number: token for token, number in original["model"]["vocab"].items()}
    added = {token["content"] for token in original["added_tokens"]}
    tokens = [names.get(number, f"[PAD{number}]") for number in range(o200k.VOCAB)]
    path = tmp_path_factory.mktemp("o200k") / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            CONTROL if token in added else NORMAL if number in names else UNUSED
            for number, token in enumerate(tokens)
        ]
    )
    writer.add_token_merges([" ".join(merge) for merge in original["model"]["merges"]])
    writer.add_eos_token_id(199_999)
    writer.add_tensor("nothing", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_vocabulary_comes_back_with_its_holes(
    original: dict[str, Any], converted: Path
) -> None:
    with GgufFile(converted) as file:
        vocabulary = read_vocabulary(file, o200k.VOCAB)
        ends = stop_token_ids(file, vocabulary)
    ours = json.loads(tokenizer_json(vocabulary))

    assert ours["model"]["vocab"] == original["model"]["vocab"]
    assert ours["model"]["merges"] == original["model"]["merges"]
    assert ours["model"]["ignore_merges"] == original["model"]["ignore_merges"]
    # GGUF has no word for tool tokens, which are added but not special.
    for mine, other in zip(ours["added_tokens"], original["added_tokens"], strict=True):
        assert mine == {**other, "special": True}
    assert ends == (199_999, 200_019, 200_020, 200_021, 200_022)

    found, expected = Tokenizer.from_str(json.dumps(ours)), Tokenizer.from_file(str(o200k.path()))
    for text in TEXTS:
        assert found.encode(text).ids == expected.encode(text).ids
