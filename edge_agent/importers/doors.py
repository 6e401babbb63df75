"""Picks the door for what lies at a path: a GGUF file, or a directory in one of two layouts."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.importers.genai import open_genai
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.importers.hf import open_hf

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from edge_agent.importers.source import Model

_GGUF_MAGIC = b"GGUF"
_READ = (
    "this version reads a GGUF file, a Hugging Face directory (config.json and *.safetensors) and "
    "an onnxruntime-genai directory (genai_config.json)"
)


def open_model(path: Path) -> AbstractContextManager[Model]:
    """Open the model at `path` by what lies there; it is valid until the context ends.

    Raises:
        ModelError: nothing there, or nothing this version reads.
    """
    try:
        if path.is_dir():
            return _open_directory(path)
        if _is_gguf(path):
            return open_gguf(path)
    except OSError as exc:
        raise ModelError(str(exc)) from exc
    raise _refusal(path)


def _open_directory(path: Path) -> AbstractContextManager[Model]:
    # First, because such a directory has a config.json too.
    if (path / "genai_config.json").exists():
        return open_genai(path)
    if (path / "config.json").exists():  # which complains of what else is missing, or pickled
        return open_hf(path)
    raise _refusal(path)


def _is_gguf(path: Path) -> bool:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        return False
    with path.open("rb") as file:
        return file.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC


def _refusal(path: Path) -> ModelError:
    return ModelError(f"{path}: no model: {_READ}")
