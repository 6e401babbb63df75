"""The door for GGUF files: one file holds the weights, the vocabulary and the chat template."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.importers import gguf_tokenizer, gguf_vocabulary
from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.gguf_llama import LLAMA
from edge_agent.importers.gguf_phi3 import PHI3
from edge_agent.importers.source import Model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ARCHITECTURES = {each.name: each for each in (LLAMA, PHI3)}


@contextmanager
def open_gguf(path: Path) -> Iterator[Model]:
    """Open the model in the GGUF file `path`.

    Raises:
        ModelError: no GGUF file, of an architecture or a vocabulary that is not read, or one that
            contradicts itself.
    """
    with GgufFile(path) as gguf:
        name = gguf.text("general.architecture")
        architecture = _ARCHITECTURES.get(name)
        if architecture is None:
            known = ", ".join(_ARCHITECTURES)
            problem = f"architecture {name!r} is not read by this version; it reads {known}"
            gguf.refuse(problem)
        layout = architecture.read_layout(gguf)
        vocabulary = gguf_vocabulary.read_vocabulary(gguf, layout.shape.vocab)
        yield Model(
            shape=layout.shape,
            rope=layout.rope,
            context=layout.context,
            products=layout.products,
            norms=layout.norms,
            tokenizer=gguf_tokenizer.tokenizer_json(vocabulary),
            chat_template=gguf_vocabulary.chat_template(gguf, vocabulary),
            stop_token_ids=gguf_vocabulary.stop_token_ids(gguf, vocabulary),
        )
