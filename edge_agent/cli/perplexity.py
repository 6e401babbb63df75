"""Perplexity of a text under a package: what quantizing costs, as one number.

The text's tokens are cut into windows of `window` tokens, each read from an empty cache; the second
half of each window is scored, so that every scored token has at least half a window before it. That
is how llama.cpp's `llama-perplexity` counts, so figures can be set side by side.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Rows of logits at a time: 64 of 200,064 floats are 51 MB.
_CHUNK_TOKENS = 64


def measure(
    package: Path,
    text: Path,
    *,
    window: int,
    most_tokens: int | None,
    threads: int,
    kv_dtype: str,
) -> dict[str, Any]:
    """Return perplexity, its standard error, and how many tokens were scored.

    Raises:
        ModelError: the package cannot be loaded, or the text cannot be read or is too short.
    """
    manifest = read_manifest(package)
    ids = _ids(Tokenizer.load(package / "tokenizer.json"), text)[:most_tokens]
    windows = [ids[start : start + window] for start in range(0, len(ids) - window + 1, window)]
    if not windows:
        msg = f"{text}: {len(ids)} tokens, less than one window of {window}"
        raise ModelError(msg)
    decoder = Decoder(
        package,
        manifest,
        slots=1,
        tokens=window + _CHUNK_TOKENS,
        threads=threads,
        kv_dtype=KvDtype(kv_dtype),
    )
    losses = np.array([loss for tokens in windows for loss in _losses(decoder, tokens)])
    perplexity = math.exp(losses.mean())
    # The error of the mean loss, carried through exp(): d exp(x) = exp(x) dx.
    error = perplexity * losses.std(ddof=1) / math.sqrt(len(losses))
    return {
        "model": manifest.name,
        "perplexity": round(perplexity, 4),
        "standard_error": round(error, 4),
        "scored_tokens": len(losses),
        "window_tokens": window,
        "kv_dtype": kv_dtype,
        "quantization": {
            "bits": manifest.quantization.bits,
            "block": manifest.quantization.block,
            "head bits": manifest.quantization.head_bits,
            "activations": manifest.quantization.activations,
        },
        "package_bytes": sum(file.bytes for file in manifest.files.values()),
    }


def losses_of(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float64]:
    """Return -log p of each target, float64 [R], under logits float32 [R, vocab]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    # Summed in float64: 200,064 small terms would lose digits in float32.
    normalizers = np.log(np.exp(shifted).sum(axis=1, dtype=np.float64))
    chosen = shifted[np.arange(len(targets)), np.asarray(targets)]
    losses: NDArray[np.float64] = normalizers - chosen
    return losses


def _ids(tokenizer: Tokenizer, text: Path) -> list[int]:
    try:
        return tokenizer.encode(text.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{text}: {exc}"
        raise ModelError(msg) from exc


def _losses(decoder: Decoder, tokens: Sequence[int]) -> Iterator[float]:
    """Read one window from an empty cache; yield the loss of each token of its second half."""
    decoder.arena.release(0)
    first = len(tokens) // 2
    last = len(tokens) - 1  # what follows the last token is not known
    for start in range(0, last, _CHUNK_TOKENS):
        stop = min(start + _CHUNK_TOKENS, last)
        num_logits = max(0, stop - max(start, first))
        row = Row(slot=0, past=start, tokens=tokens[start:stop], num_logits=num_logits)
        logits = decoder.forward([row])
        if num_logits:
            yield from losses_of(logits, tokens[stop + 1 - num_logits : stop + 1])
