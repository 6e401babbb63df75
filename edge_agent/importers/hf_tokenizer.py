"""The `tokenizer.json` of a Hugging Face directory, checked against the model it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import tokenizers
from msgspec import Meta, Raw, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.directory import naming
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.directory import Directory

FILE_NAME = "tokenizer.json"
# Phi-4-mini's takes 15.5 MB, the largest known vocabularies (256,000 tokens) twice that.
MAX_BYTES = 48 << 20

_Id = Annotated[int, Meta(ge=0, lt=1 << 32)]
_NULL = Raw(b"null")


class _Added(Struct, frozen=True):
    """A token that is matched whole, before any merge."""

    id: _Id
    content: str


class _Model(Struct, frozen=True):
    """What we look at of the model; its merges are not made Python objects."""

    vocab: dict[str, _Id]
    dropout: float | None = None


class _Definition(Struct, frozen=True):
    """What we look at of the file."""

    model: _Model
    added_tokens: tuple[_Added, ...] = ()
    truncation: Raw = _NULL
    padding: Raw = _NULL


@dataclass(frozen=True, slots=True, kw_only=True)
class HfTokenizer:
    """A tokenizer that was proven to load and to fit its model."""

    content: bytes
    """A package's `tokenizer.json`: the file's own, unless that would cut or pad every text."""
    ids: Mapping[str, int]
    """Every token, the added ones too, with its id."""
    tokenizer: Tokenizer
    """What the engine will make of it."""


def read_tokenizer(directory: Directory, vocab: int) -> HfTokenizer:
    """Read the tokenizer of a model whose embedding has `vocab` rows.

    Raises:
        ModelError: missing, too large, not byte-level BPE, does not load, or has ids that
            contradict each other or are not below `vocab`.
    """
    content = directory.read(FILE_NAME, limit_bytes=MAX_BYTES)
    with naming(FILE_NAME):
        definition = _definition(content)
        ids = _ids(definition, vocab)
        # Left behind by training, where texts of a batch get one length. Here it would lose words.
        if not definition.truncation == definition.padding == _NULL:
            parts = msgspec.json.decode(content, type=dict[str, Raw])
            content = msgspec.json.encode(parts | {"truncation": _NULL, "padding": _NULL})
        return HfTokenizer(content=content, ids=ids, tokenizer=Tokenizer(content))


def _definition(content: bytes) -> _Definition:
    # First, because this refuses a wrong structure before Python objects are made of it.
    try:
        tokenizers.Tokenizer.from_buffer(content)
    except Exception as exc:  # the library raises nothing more precise
        msg = f"does not load: {exc}"
        raise ModelError(msg) from exc
    try:
        return msgspec.json.decode(content, type=_Definition)
    except msgspec.DecodeError as exc:  # a vocabulary of another kind
        msg = f"not byte-level BPE: {exc}"
        raise ModelError(msg) from exc


def _ids(definition: _Definition, vocab: int) -> dict[str, int]:
    if definition.model.dropout:
        msg = f"a dropout of {definition.model.dropout} makes every encoding a random one"
        raise ModelError(msg)
    tokens = definition.model.vocab
    for added in definition.added_tokens:
        if tokens.setdefault(added.content, added.id) != added.id:
            msg = f"token {added.content!r} has the ids {tokens[added.content]} and {added.id}"
            raise ModelError(msg)
    by_id = {number: token for token, number in tokens.items()}
    if len(by_id) < len(tokens):
        twin = next(token for token, number in tokens.items() if by_id[number] != token)
        msg = f"tokens {twin!r} and {by_id[tokens[twin]]!r} have the same id {tokens[twin]}"
        raise ModelError(msg)
    if (highest := max(by_id, default=0)) >= vocab:
        msg = f"token {by_id[highest]!r} has the id {highest}, the embedding {vocab} rows"
        raise ModelError(msg)
    return tokens
