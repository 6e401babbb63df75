"""Measures how large keys and values of a package become, by its own engine: `model calibrate`.

The import has scales from the float model already; these are of the weights as they were rounded,
over more text, or over a text of the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.importers.calibration import (
    ROOM_OVER_LONG_TEXT,
    TEXT,
    prompt,
    scales_of,
    sizes,
)
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.scales import OWN_SCALES
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CHUNK_TOKENS = 128


def calibrate(package: Path, *, threads: int, text: str | None = None) -> int:
    """Write scales of an int8 KV cache into `package`; return how many tokens were read.

    They go before those of the import. Reads `text` as the message of a user, else one that comes
    with this program, with the package's fp32 graph. What is longer than the context is left out.

    Raises:
        ModelError: the package cannot be loaded, or its chat template has no place for a user's
            message.
        OSError: the scales cannot be written.
    """
    manifest = read_manifest(package)
    if text is None:
        text = TEXT.read_text("utf-8")
    tokens = _prompt(package, text)[: manifest.context]
    capacity = len(tokens) + _CHUNK_TOKENS
    decoder = Decoder(package, manifest, slots=1, tokens=capacity, threads=threads)
    _read(decoder, tokens)
    greatest = [
        sizes(
            keys[0, :, : len(tokens)].swapaxes(0, 1),
            values[0, :, : len(tokens)].swapaxes(0, 1),
            rotated=manifest.rope.dims,
        )
        for keys, values in decoder.arena.layers
    ]
    scales = scales_of(np.stack(greatest), room=ROOM_OVER_LONG_TEXT)
    write_kv_scales(package / OWN_SCALES, manifest.shape, scales)
    return len(tokens)


def _prompt(package: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.load(package / "tokenizer.json")
    return prompt(text, ChatTemplate.load(package / "chat_template.jinja", tokenizer))


def _read(decoder: Decoder, tokens: Sequence[int]) -> None:
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        chunk = tokens[start : start + _CHUNK_TOKENS]
        # One row of logits, because no step is without; nobody looks at it.
        decoder.forward([Row(slot=0, past=start, tokens=chunk, num_logits=1)])
