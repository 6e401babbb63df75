"""The door is chosen by what lies at the path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.doors import open_model
from tests.importers.tiny_gguf import TinyModel, vocabulary
from tests.importers.tiny_hf import VOCAB, TinyHf

if TYPE_CHECKING:
    from pathlib import Path


def test_a_gguf_file_is_known_by_how_it_begins(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "weights")

    with open_model(tmp_path / "weights") as model:
        assert model.shape.vocab == len(vocabulary())


def test_a_hugging_face_directory_is_known_by_its_configuration(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)

    with open_model(tmp_path) as model:
        assert model.shape.vocab == VOCAB


def test_a_genai_directory_is_known_though_it_has_the_other_configuration_too(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "genai_config.json").write_text("[]")

    with pytest.raises(ModelError, match="genai_config"), open_model(tmp_path):
        pass


@pytest.mark.parametrize("name", ["", "model.bin", "empty", "pipe"])
def test_all_else_is_refused_with_what_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.bin").write_bytes(b"GGML and so on")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name

    with pytest.raises(ModelError) as caught, open_model(path):
        pass

    assert str(caught.value).startswith(f"{path}: no model: this version reads a GGUF file, a Hug")


def test_a_path_with_nothing_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No such file .*none"), open_model(tmp_path / "none"):
        pass
