"""The door for onnxruntime-genai packages: weights out of an ONNX graph, integers kept as they are.

The official package of Phi-4-mini stores its matrix of tokens twice, as the 4-bit head and as an
embedding of 2.46 GB of floats. They are the same matrix where the model is tied; then the float
one is left out and the head serves as both, as in packages that newer builders make. Whether a
model is tied is stated by a `config.json` beside the graph. Without one it is measured: rows of a
tied embedding and of the head it was rounded to correlate above 0.99, those of two matrices do not.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import genai_layout, genai_rope, hf_config
from edge_agent.importers.directory import Directory
from edge_agent.importers.genai_config import check_shape, read_genai_config
from edge_agent.importers.genai_decoder import Names, read_decoder
from edge_agent.importers.genai_graph import Graph
from edge_agent.importers.genai_parts import part
from edge_agent.importers.genai_proto import MAX_MODEL_BYTES, parse_model
from edge_agent.importers.genai_tensors import TensorFiles
from edge_agent.importers.hf_config import HfConfig
from edge_agent.importers.hf_words import read_words
from edge_agent.importers.source import Model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.importers.genai_config import GenaiConfig
    from edge_agent.importers.genai_decoder import Decoder
    from edge_agent.modelstore.manifest import Shape

# What a 4-bit matrix of blocks of 256 still reaches; see above.
TIED_CORRELATION = 0.98
# A thousand numbers and more even in the smallest model.
_SAMPLED_ROWS = 64


@contextmanager
def open_genai(path: Path) -> Iterator[Model]:
    """Open the model in the onnxruntime-genai package `path`, a directory.

    Raises:
        ModelError: a file is missing, too large, or not what it should be; the graph computes
            anything that our decoder does not; its weights are in a form that is not read, or lie
            anywhere but in regular files of the directory.
    """
    directory = Directory(path)
    config = read_genai_config(directory)
    with ExitStack() as stack:
        decoder = _read_graph(directory, config, TensorFiles(directory, stack))
        shape = genai_layout.read_shape(decoder)
        check_shape(config, shape)
        _check_window(decoder, config.model.context_length)
        facts = _facts(directory, config, decoder, shape)
        words = read_words(directory, facts)
        yield Model(
            shape=shape,
            rope=facts.rope,
            context=facts.context,
            products=genai_layout.read_products(decoder, shape, is_tied=facts.is_tied),
            norms=genai_layout.read_norms(decoder, shape),
            tokenizer=words.tokenizer,
            chat_template=words.chat_template,
            stop_token_ids=words.stop_token_ids,
            sampling=config.search.sampling if config.search.do_sample else words.sampling,
        )


def _read_graph(directory: Directory, config: GenaiConfig, files: TensorFiles) -> Decoder:
    described = config.model.decoder
    data = directory.read(described.filename, limit_bytes=MAX_MODEL_BYTES)
    graph = Graph(parse_model(data, described.filename), files.locate)
    names = Names(
        input_ids=described.inputs.input_ids,
        attention_mask=described.inputs.attention_mask,
        logits=described.outputs.logits,
    )
    decoder = read_decoder(graph, names)
    graph.check_understood(names.logits)
    return decoder


def _check_window(decoder: Decoder, context: int) -> None:
    if 0 <= decoder.attention.window < context:
        window = f"a window of {decoder.attention.window} tokens"
        msg = f"{window} in a context of {context} is not supported"
        raise ModelError(msg)


def _facts(directory: Directory, config: GenaiConfig, decoder: Decoder, shape: Shape) -> HfConfig:
    """Return what `config.json` states, proven on the graph; without one, what the graph tells."""
    ends = hf_config.token_ids(config.model.eos_token_id)
    if directory.has(hf_config.FILE_NAME):
        stated = hf_config.read_config(directory)
        if stated.shape != shape or stated.context != config.model.context_length:
            msg = f"{hf_config.FILE_NAME} states {stated.shape}, the graph has {shape}"
            raise ModelError(msg)
        genai_rope.check_rope(stated.rope, decoder.rope)
        return replace(stated, end_token_ids=(*stated.end_token_ids, *ends))
    context = config.model.context_length
    return HfConfig(
        family=config.model.family,
        shape=shape,
        rope=genai_rope.recover_rope(decoder.rope, context=context),
        context=context,
        is_tied=_is_tied(decoder, shape),
        end_token_ids=ends,
    )


def _is_tied(decoder: Decoder, shape: Shape) -> bool:
    """Return whether the embedding is the matrix that the head is, or was rounded from."""
    if decoder.embedding == decoder.head:
        return True
    if decoder.embedding.columns != decoder.head.columns or decoder.embedding.rows != shape.vocab:
        return False
    embedding, head = part(decoder.embedding), part(decoder.head)
    rows = np.unique(np.linspace(0, shape.vocab - 1, _SAMPLED_ROWS, dtype=int))
    left, right = (
        np.concatenate([matrix.floats(row, row + 1)[0] for row in rows.tolist()]).astype(np.float64)
        for matrix in (embedding, head)
    )
    together = np.sqrt((left @ left) * (right @ right))
    return bool(together > 0 and left @ right > TIED_CORRELATION * together)
