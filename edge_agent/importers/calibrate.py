"""Measures how large keys and values become, so that a KV cache can hold them in 8 bits.

The scale of a channel is its greatest size over a text of many kinds, with some room above. Keys
are cached as they are rotated, and rotation mixes the two channels of a pair by the position. So
both get the greatest length of the pair, which no position changes: the scales then hold for all
positions, in short and in long mode.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.messages import Message, Role
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.scales import OWN_SCALES
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TEXT = "calibration.txt"
# The greatest of int8, without -128: both signs reach equally far.
_TOP = 127
# Other texts go a little beyond the measured one; what goes beyond is cut off, which costs more
# than steps that are wider by as much.
_ROOM = 1.2
_CHUNK_TOKENS = 128
# A channel that was zero throughout, which has no size to go by.
_LEAST_SCALE = 1e-6


def calibrate(
    package: Path, *, threads: int, text: str | None = None, name: str = OWN_SCALES
) -> int:
    """Write the scales of an int8 KV cache into `package`; return how many tokens were read.

    The file is called `name`: by default so that it goes before what the import made.

    Reads `text` as the message of a user, else one that comes with this program, with the
    package's fp32 graph. What is longer than the context is left out.

    Raises:
        ModelError: the package cannot be loaded.
        InvalidRequest: its chat template has no place for a user's message.
        OSError: the scales cannot be written.
    """
    manifest = read_manifest(package)
    if text is None:
        text = (resources.files("edge_agent.importers") / TEXT).read_text("utf-8")
    tokens = _prompt(package, text)[: manifest.context]
    capacity = len(tokens) + _CHUNK_TOKENS
    decoder = Decoder(package, manifest, slots=1, tokens=capacity, threads=threads)
    _read(decoder, tokens)
    sizes = [
        (
            _pair_lengths(keys[0, :, : len(tokens)], manifest.rope.dims).max(axis=1),
            np.abs(values[0, :, : len(tokens)]).max(axis=1),
        )
        for keys, values in decoder.arena.layers
    ]
    write_kv_scales(package / name, manifest.shape, scales_of(np.array(sizes, np.float32)))
    return len(tokens)


def scales_of(sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scales of channels whose greatest sizes are `sizes`, of any shape."""
    scales: NDArray[np.float32] = sizes * np.float32(_ROOM / _TOP)
    return scales.clip(min=np.float32(_LEAST_SCALE))


def _prompt(package: Path, text: str) -> list[int]:
    # As a conversation: control tokens come first in every prompt, and are unlike any text.
    tokenizer = Tokenizer.load(package / "tokenizer.json")
    template = ChatTemplate.load(package / "chat_template.jinja", tokenizer)
    return template.encode([Message(role=Role.USER, content=text)])


def _read(decoder: Decoder, tokens: Sequence[int]) -> None:
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        chunk = tokens[start : start + _CHUNK_TOKENS]
        # One row of logits, because no step is without; nobody looks at it.
        decoder.forward([Row(slot=0, past=start, tokens=chunk, num_logits=1)])


def _pair_lengths(keys: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Return |keys| [kv_heads, tokens, head_dim], in rotated dims the length of each pair."""
    sizes: NDArray[np.float32] = np.abs(keys)
    half = dims // 2
    lengths = np.hypot(sizes[..., :half], sizes[..., half:dims])
    sizes[..., :half] = sizes[..., half:dims] = lengths
    return sizes
