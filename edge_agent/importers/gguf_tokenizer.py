"""Writes the vocabulary of a GGUF file as the `tokenizer.json` of a package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from edge_agent.errors import ModelError
from edge_agent.importers.pre_tokenizers import BYTE_LEVEL

if TYPE_CHECKING:
    from edge_agent.importers.gguf_vocabulary import Added, Vocabulary


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Return the `tokenizer.json` of `vocabulary`, proven to load and to have its ids.

    Raises:
        ModelError: it does not.
    """
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token) for token in vocabulary.added],
        "normalizer": vocabulary.pre_tokenizer.normalizer,
        "pre_tokenizer": vocabulary.pre_tokenizer.definition,
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": vocabulary.pre_tokenizer.ignore_merges,
            "vocab": vocabulary.ids,
            "merges": vocabulary.merges,
        },
    }
    encoded = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    _prove(encoded, vocabulary)
    return encoded.encode()


def _added(token: Added) -> dict[str, Any]:
    return {
        "id": token.id,
        "content": token.text,
        "single_word": False,
        "lstrip": False,
        "rstrip": token.takes_space,
        "normalized": False,
        "special": token.is_special,
    }


def _prove(encoded: str, vocabulary: Vocabulary) -> None:
    """Load what was written and compare its ids, token by token."""
    try:
        tokenizer = Tokenizer.from_str(encoded)
    except Exception as exc:  # the library raises nothing narrower
        msg = f"the tokenizer does not load: {exc}"
        raise ModelError(msg) from exc
    found = tokenizer.get_vocab(with_added_tokens=True)
    if found != vocabulary.ids:
        differing = sorted(set(found.items()) ^ set(vocabulary.ids.items()))
        msg = f"the tokenizer gives other ids than the file, as to {differing[0]}"
        raise ModelError(msg)
