"""Phi-4-mini's tokenizer, rebuilt from the o200k ranks inside a package of the test environment.

`tokenizer.json` is made once (about 4 s) and kept in `$EDGE_TEST_CACHE` (default below ~/.cache).
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from edge_agent.text.tokenizer import Tokenizer, byte_alphabet

# What tiktoken itself pins for `o200k_base.tiktoken`.
RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
VOCAB = 200_064
"""Rows of the model's embedding; some have no token."""

_LETTER_CASES = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    [
        *(word + _CONTRACTION for word in _LETTER_CASES),
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
# Name, id, whether it is special, whether it swallows the white space after it.
_ADDED = (
    ("<|endoftext|>", 199_999, True, False),
    ("<|endofprompt|>", 200_018, True, False),
    ("<|assistant|>", 200_019, True, True),
    ("<|end|>", 200_020, True, True),
    ("<|user|>", 200_021, True, True),
    ("<|system|>", 200_022, True, True),
    ("<|tool|>", 200_023, False, True),
    ("<|/tool|>", 200_024, False, True),
    ("<|tool_call|>", 200_025, False, True),
    ("<|/tool_call|>", 200_026, False, True),
    ("<|tool_response|>", 200_027, False, True),
    ("<|tag|>", 200_028, True, True),
)
CONTROL = {name: token_id for name, token_id, _, _ in _ADDED}


def ranks() -> dict[bytes, int]:
    """Return every token's bytes and its rank, which is its id.

    Raises:
        AssertionError: the package holds other ranks than those that were checked.
    """
    # Found, not imported: on import it warns of what it uses, and a warning is an error here.
    package = importlib.util.find_spec("bpe_openai")
    assert package is not None
    assert package.origin is not None
    packed = Path(package.origin).parent / "data" / "o200k_base.tiktoken.gz"
    raw = gzip.decompress(packed.read_bytes())
    assert hashlib.sha256(raw).hexdigest() == RANKS_SHA256
    pairs = (line.split() for line in raw.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def path() -> Path:
    """Return where `tokenizer.json` is, after making it if it is not there."""
    cache = Path(os.environ.get("EDGE_TEST_CACHE") or "~/.cache/edge-agent-tests").expanduser()
    # Another version of this file makes another tokenizer.
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    found = cache / f"o200k-{version}.json"
    if not found.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = cache / f"o200k-{version}.{os.getpid()}"
        unfinished.write_text(json.dumps(_definition(ranks()), ensure_ascii=False))
        unfinished.rename(found)
    return found


@functools.cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer as the engine loads it, once per process."""
    return Tokenizer.load(path())


def _definition(ranks: dict[bytes, int]) -> dict[str, Any]:
    alphabet = {byte: chr(point) for point, byte in byte_alphabet().items()}

    def spelled(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    merges = [
        [spelled(part) for part in _last_pair(token, ranks)] for token in ranks if len(token) > 1
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": PATTERN},
        "behavior": "Removed",
        "invert": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": rstrip,
                "normalized": False,
                "special": special,
            }
            for name, token_id, special, rstrip in _ADDED
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, {**byte_level, "use_regex": False}],
        },
        "post_processor": {**byte_level, "use_regex": True},
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spelled(token): rank for token, rank in ranks.items()} | CONTROL,
            "merges": merges,
        },
    }


def _last_pair(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the merge that makes `token`: what byte-pair encoding of its bytes leaves at last."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        first = min(
            range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks))
        )
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts[0], parts[1]
