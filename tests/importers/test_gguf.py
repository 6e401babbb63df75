"""An open GGUF file, with the `gguf` package as the oracle."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.ggml_blocks import floats
from edge_agent.importers.gguf import GgufFile
from tests.importers.tiny_gguf import TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    TinyModel().write(path)
    return path


def test_everything_in_the_file_is_found(tiny: Path) -> None:
    oracle = gguf.GGUFReader(tiny)

    with GgufFile(tiny) as ours:
        assert ours.text("general.architecture") == "llama"
        assert ours.strings("tokenizer.ggml.tokens") == vocabulary()
        assert ours.number("llama.rope.freq_base") == 10_000.0
        assert list(ours.tensors) == [tensor.name for tensor in oracle.tensors]
        for expected in oracle.tensors:
            found = ours.tensor(expected.name)
            raw = ours.rows(found, 0, found.rows)
            expected_floats = gguf.quants.dequantize(expected.data, expected.tensor_type)
            np.testing.assert_array_equal(
                floats(found.kind, raw), expected_floats.reshape(found.rows, -1)
            )


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf.*No such file"):
        GgufFile(tmp_path / "none.gguf")


def test_metadata_of_another_type_is_refused(tiny: Path) -> None:
    with GgufFile(tiny) as ours:
        for read, key in (
            (ours.text, "llama.block_count"),
            (ours.integer, "general.architecture"),
            (ours.number, "llama.block_count"),
            (ours.strings, "tokenizer.ggml.token_type"),
            (ours.integers, "general.architecture"),
            (ours.integer, "tokenizer.ggml.add_bos_token"),
            (ours.text, "no.such.key"),
            (ours.tensor, "no.such.tensor"),
        ):
            with pytest.raises(ModelError):
                read(key)


def test_a_problem_begins_with_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").touch()

    with pytest.raises(ModelError, match=r"^bad\.gguf: the file is empty$"):
        GgufFile(tmp_path / "bad.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"ONNX" + bytes(20))
    with pytest.raises(ModelError, match=r"^bad\.gguf: not a GGUF file$"):
        GgufFile(tmp_path / "bad.gguf")


def test_a_problem_stays_a_sentence_whatever_it_quotes(tmp_path: Path) -> None:
    TinyModel(metadata={"tokenizer.ggml.pre": "x" * 100_000}).write(tmp_path / "long.gguf")

    with GgufFile(tmp_path / "long.gguf") as ours, pytest.raises(ModelError) as caught:
        ours.refuse(f"pre-tokenizer {ours.text('tokenizer.ggml.pre')!r}")

    assert len(str(caught.value)) < 500
    assert str(caught.value).endswith("x…")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel().write(path)

    with GgufFile(path) as ours:
        with path.open("r+b") as file:
            file.truncate(20_000)
        last = ours.tensor("blk.1.ffn_down.weight")
        with pytest.raises(ModelError, match="cut short: tensor"):
            ours.rows(last, 0, last.rows)


def test_a_disk_that_fails_is_a_model_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with GgufFile(tiny) as ours:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(ModelError, match=r"tiny\.gguf: .*Input/output error"):
            ours.rows(ours.tensor("output_norm.weight"), 0, 1)
