"""The `tokenizer.json` of a Hugging Face directory, checked against the model it belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import tokenizers
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.directory import naming
from edge_agent.importers.strict_json import parse_object
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.directory import Directory

FILE_NAME = "tokenizer.json"
# Phi-4-mini's takes 15.5 MB, the largest known vocabularies (256,000 tokens) twice that.
MAX_BYTES = 48 << 20

_Id = Annotated[int, Meta(ge=0, lt=1 << 32)]


class _Added(Struct, frozen=True):
    """A token that is matched whole, before any merge."""

    id: _Id
    content: str


class _Model(Struct, frozen=True):
    """The parts of the model section that are checked."""

    vocab: dict[str, _Id]
    dropout: float | None = None


class _Definition(Struct, frozen=True):
    """The parts of the file that are checked."""

    model: _Model
    added_tokens: tuple[_Added, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HfTokenizer:
    """A tokenizer that was proven to load and to fit its model."""

    content: bytes
    """A package's `tokenizer.json`: the file's own, unless that would cut or pad every text."""
    ids: Mapping[str, int]
    """Every token, the added ones too, with its id."""
    checked: Tokenizer


def read_tokenizer(directory: Directory, vocab: int) -> HfTokenizer:
    """Read the tokenizer of a model whose embedding has `vocab` rows.

    Raises:
        ModelError: missing, too large, not byte-level BPE, does not load, ids that contradict each
            other or are not below `vocab`.
    """
    content = directory.read(FILE_NAME, limit_bytes=MAX_BYTES)
    with naming(FILE_NAME):
        return _checked(content, vocab)


def _checked(content: bytes, vocab: int) -> HfTokenizer:
    # First, because this refuses a wrong structure before Python objects are made of it.
    try:
        tokenizers.Tokenizer.from_buffer(content)
    except Exception as exc:  # the library raises nothing more precise
        msg = f"does not load: {exc}"
        raise ModelError(msg) from exc
    definition = parse_object(content, "content")
    ids = _ids(definition, vocab)
    # Left behind by training, where texts of a batch get one length. Here it would lose words.
    if definition.get("truncation") or definition.get("padding"):
        definition |= {"truncation": None, "padding": None}
        content = json.dumps(definition, ensure_ascii=False, separators=(",", ":")).encode()
    return HfTokenizer(content=content, ids=ids, checked=Tokenizer(content))


def _ids(definition: Mapping[str, Any], vocab: int) -> dict[str, int]:
    try:
        checked = msgspec.convert(definition, _Definition)
    except msgspec.ValidationError as exc:
        raise ModelError(str(exc)) from exc
    if checked.model.dropout:
        msg = f"a dropout of {checked.model.dropout} makes every encoding a random one"
        raise ModelError(msg)
    tokens = dict(checked.model.vocab)
    for added in checked.added_tokens:
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
