"""How named pre-tokenizers of GGUF cut text before merges, as parts of a `tokenizer.json`.

The names are the format's own; each stands for the tokenizer of the family it is named after, whose
`tokenizer.json` has the expressions below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BYTE_LEVEL: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
"""Bytes as characters; as a pre-tokenizer it also cuts with GPT-2's own expression."""

_LETTERS = r"\p{Lm}\p{Lo}\p{M}"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_O200K = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]*[\p{{Ll}}{_LETTERS}]+{_CONTRACTION}?",
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]+[\p{{Ll}}{_LETTERS}]*{_CONTRACTION}?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_LLAMA_3 = "|".join(
    (
        _CONTRACTION,
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
# The same, but digits stand alone.
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTokenizer:
    """What the name of a pre-tokenizer implies."""

    definition: dict[str, Any]
    """`pre_tokenizer` of the `tokenizer.json`."""
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False
    """Whether a piece that is a token is taken whole, even where merges would not lead to it."""
    add_bos: bool = False
    """Whether a prompt begins with the token for that, where the file does not say."""


def _split(expression: str) -> dict[str, Any]:
    """Cut with an expression of which every character is part of a match."""
    return {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": expression},
                "behavior": "Isolated",
                "invert": False,
            },
            BYTE_LEVEL | {"use_regex": False},
        ],
    }


_SMOLLM = {
    "type": "Sequence",
    "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
}

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "gpt-2": PreTokenizer(definition=BYTE_LEVEL),
    "gpt-4o": PreTokenizer(definition=_split(_O200K)),
    "llama-bpe": PreTokenizer(definition=_split(_LLAMA_3), ignore_merges=True, add_bos=True),
    "qwen2": PreTokenizer(definition=_split(_QWEN_2), normalizer={"type": "NFC"}),
    "smollm": PreTokenizer(definition=_SMOLLM),
}
