"""The door for GGUF files: one file holds the weights, the vocabulary and the chat template."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.importers import gguf_llama, gguf_phi3, gguf_tokenizer, gguf_vocabulary
from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.source import Model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LAYOUTS = {
    gguf_llama.ARCHITECTURE: gguf_llama.read_layout,
    gguf_phi3.ARCHITECTURE: gguf_phi3.read_layout,
}


@contextmanager
def open_gguf(path: Path) -> Iterator[Model]:
    """Open the model in the GGUF file `path`.

    Raises:
        ModelError: no GGUF file, of an architecture or a vocabulary that is not read, or one that
            contradicts itself.
    """
    with GgufFile(path) as gguf:
        architecture = gguf.text("general.architecture")
        read_layout = _LAYOUTS.get(architecture)
        if read_layout is None:
            known = ", ".join(_LAYOUTS)
            problem = f"architecture {architecture!r} is not read by this version; it reads {known}"
            gguf.refuse(problem)
        layout = read_layout(gguf)
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
