"""Turns the vocabulary inside a GGUF file into the `tokenizer.json` of a package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from edge_agent.importers.gguf import GgufFile

FILE_NAME = "tokenizer.json"

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
# How each named pre-tokenizer of GGUF cuts text before merges; the names are the format's own.
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
    "gpt-2": _BYTE_LEVEL,
}


def tokenizer_json(gguf: GgufFile) -> bytes:
    """Return `tokenizer.json` of the byte-level BPE vocabulary in `gguf`, proven to load.

    Raises:
        ModelError: another kind of vocabulary, or one that contradicts itself.
    """
    if (model := gguf.text("tokenizer.ggml.model")) != "gpt2":
        msg = f"tokenizer {model!r} is not read by this version; it reads 'gpt2' (byte-level BPE)"
        raise ModelError(msg)
    tokens = gguf.strings("tokenizer.ggml.tokens")
    if (rows := gguf.tensor("token_embd.weight").rows) != len(tokens):
        msg = f"the embedding has {rows} rows, the vocabulary {len(tokens)} tokens"
        raise ModelError(msg)
    kinds = gguf.integers("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens) or len(set(tokens)) != len(tokens):
        msg = f"{len(tokens)} tokens, {len(set(tokens))} distinct, {len(kinds)} token types"
        raise ModelError(msg)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(gguf.text("tokenizer.ggml.pre")),
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": _bpe(tokens, gguf.strings("tokenizer.ggml.merges")),
    }
    encoded = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    _prove(encoded, tokens)
    return encoded


def stop_token_ids(gguf: GgufFile) -> tuple[int, ...]:
    """Return the ids that end an answer.

    Raises:
        ModelError: the end token is missing or not in the vocabulary.
    """
    num_tokens = len(gguf.strings("tokenizer.ggml.tokens"))
    end = gguf.integer("tokenizer.ggml.eos_token_id")
    if not 0 <= end < num_tokens:
        gguf.refuse(f"end token {end} is not in the vocabulary of {num_tokens}")
    return (end,)


def _pre_tokenizer(name: str) -> dict[str, Any]:
    if name not in _PRE_TOKENIZERS:
        known = ", ".join(_PRE_TOKENIZERS)
        msg = f"pre-tokenizer {name!r} is not known to this version; it knows {known}"
        raise ModelError(msg)
    return _PRE_TOKENIZERS[name]


def _added(tokens: list[str], kinds: list[int]) -> list[dict[str, Any]]:
    """Return the tokens that are matched whole, before any merge."""
    return [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in {_CONTROL, _USER_DEFINED}
    ]


def _bpe(tokens: list[str], merges: list[str]) -> dict[str, Any]:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [merge.split(" ") for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or "".join(pair) not in vocabulary:  # noqa: PLR2004  # a pair
            msg = f"merge {' '.join(pair)!r} does not make a token"
            raise ModelError(msg)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": pairs,
    }


def _prove(encoded: bytes, tokens: list[str]) -> None:
    """Load what was written and compare it with the vocabulary, token by token."""
    try:
        tokenizer = Tokenizer.from_str(encoded.decode())
    except Exception as exc:  # the library raises nothing narrower
        msg = f"the tokenizer does not load: {exc}"
        raise ModelError(msg) from exc
    if tokenizer.get_vocab_size() != len(tokens):
        msg = f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the file {len(tokens)}"
        raise ModelError(msg)
    for number, token in enumerate(tokens):
        if tokenizer.id_to_token(number) != token:
            msg = f"token {number} is {tokenizer.id_to_token(number)!r}, not {token!r}"
            raise ModelError(msg)
