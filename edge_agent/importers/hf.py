"""The door for Hugging Face directories: safetensors, configuration, tokenizer, chat template."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_checkpoint import open_checkpoint
from edge_agent.importers.hf_config import read_config
from edge_agent.importers.hf_layout import read_layout
from edge_agent.importers.hf_words import read_words
from edge_agent.importers.source import Model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def open_hf(path: Path) -> Iterator[Model]:
    """Open the model in the directory `path`.

    Raises:
        ModelError: a file is missing, too large, or not what it should be; an architecture or
            mathematics this version does not read; weights in pickles; tensors that are missing,
            unknown, or of another shape.
    """
    directory = Directory(path)
    config = read_config(directory)
    with open_checkpoint(directory) as checkpoint:
        layout = read_layout(checkpoint, config)
        words = read_words(directory, config)
        yield Model(
            shape=config.shape,
            rope=config.rope,
            context=config.context,
            products=layout.products,
            norms=layout.norms,
            tokenizer=words.tokenizer,
            chat_template=words.chat_template,
            stop_token_ids=words.stop_token_ids,
            sampling=words.sampling,
        )
