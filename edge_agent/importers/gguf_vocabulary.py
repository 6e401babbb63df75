"""Reads the vocabulary of a GGUF file: which ids are tokens, which of them are special, which end.

Ids without a token (GGUF fills them with made-up names) are holes here: they are no text, and a
model must never choose them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from edge_agent.importers import gguf_phi3
from edge_agent.importers.chat_template import mentions, with_tokens
from edge_agent.importers.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer

if TYPE_CHECKING:
    from edge_agent.importers.gguf import GgufFile

# Bounds above any real model (262,144 tokens, some 6,000 of them added), with what building the
# tokenizer costs: a gigabyte and half a minute for a million.
MAX_TOKENS = 1 << 19
MAX_ADDED = 1 << 15

_MODEL = "gpt2"
"""GGUF's name for byte-level BPE."""

# They end an answer: GGUF has keys for some of them only, and writers that leave those out.
_ENDS = (
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
)
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Phi only: the beginning of the next turn, a guard for answers that run on past their end.
_PHI_TURNS = ("<|assistant|>", "<|system|>", "<|user|>")
# Phi only: the white space after them is theirs, says the model's own tokenizer; GGUF has no field.
_PHI_STRIPPED = {
    *_PHI_TURNS,
    "<|end|>",
    "<|tag|>",
    "<|tool|>",
    "<|/tool|>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<|tool_response|>",
}


# A block on a line of its own: jinja takes the end of the line away, and what follows begins one.
_BOS_FIRST = "{% if true %}{{ bos_token }}{% endif %}\n"


class _Kind(IntEnum):
    """The token types that a byte-level vocabulary can have."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A token that is matched whole, before any merge."""

    text: str
    id: int
    is_special: bool
    takes_space: bool
    """Whether the white space after it is part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The tokens of a file."""

    ids: dict[str, int]
    """The id of every token, added ones too."""
    added: tuple[Added, ...]
    merges: list[tuple[str, str]]
    pre_tokenizer: PreTokenizer


def read_vocabulary(gguf: GgufFile, num_rows: int) -> Vocabulary:
    """Return the vocabulary of `gguf`, whose embedding has `num_rows` rows.

    Raises:
        ModelError: another kind of vocabulary, or one that contradicts itself.
    """
    if (model := gguf.text("tokenizer.ggml.model")) != _MODEL:
        gguf.refuse(f"tokenizer {model!r} is not read by this version; it reads {_MODEL!r}")
    tokens = gguf.strings("tokenizer.ggml.tokens")
    kinds = gguf.integers("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens):
        gguf.refuse(f"{len(tokens)} tokens, {len(kinds)} token types")
    if len(tokens) > min(num_rows, MAX_TOKENS):
        limits = f"the embedding has {num_rows} rows, the limit is {MAX_TOKENS}"
        gguf.refuse(f"{len(tokens)} tokens: {limits}")
    if unknown := set(kinds) - set(_Kind):
        gguf.refuse(f"token types {sorted(unknown)[:5]} are not read by this version")
    used = [
        (number, token, kind)
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if not _is_hole(number, token, kind)
    ]
    ids = {token: number for number, token, _ in used}
    if "" in ids:
        gguf.refuse(f"token {ids['']} is empty")
    if len(ids) < len(used):
        gguf.refuse(f"{len(used)} tokens, of which only {len(ids)} are distinct")
    added = [entry for entry in used if entry[2] in {_Kind.CONTROL, _Kind.USER_DEFINED}]
    if len(added) > MAX_ADDED:
        gguf.refuse(f"{len(added)} added tokens, the limit is {MAX_ADDED}")
    is_phi = _is_phi(gguf)
    return Vocabulary(
        ids=ids,
        added=tuple(
            Added(
                text=token,
                id=number,
                is_special=kind == _Kind.CONTROL,
                takes_space=is_phi and token in _PHI_STRIPPED,
            )
            for number, token, kind in added
        ),
        merges=_merges(gguf, ids),
        pre_tokenizer=_pre_tokenizer(gguf),
    )


def stop_token_ids(gguf: GgufFile, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the ids that end an answer: those the file names, and added tokens known to.

    Raises:
        ModelError: there is none, or the file names one that is no token.
    """
    keys = [f"tokenizer.ggml.{key}" for key in _END_KEYS]
    named = {key: gguf.integer(key) for key in keys if key in gguf.metadata}
    tokens = set(vocabulary.ids.values())
    for key, number in named.items():
        if number not in tokens:
            gguf.refuse(f"{key} {number} is not in the vocabulary")
    known = {*_ENDS, *_PHI_TURNS} if _is_phi(gguf) else set(_ENDS)
    ends = {*named.values(), *(added.id for added in vocabulary.added if added.text in known)}
    if not ends:
        gguf.refuse("no token ends an answer: 'tokenizer.ggml.eos_token_id' is missing")
    return tuple(sorted(ends))


def chat_template(gguf: GgufFile, vocabulary: Vocabulary) -> str:
    """Return the template of `gguf` with the first and last token of a text written into it.

    A file that wants every prompt to begin with its first token gets a template that does.

    Raises:
        ModelError: there is no template, or a token it needs is missing.
    """
    template = gguf.text("tokenizer.chat_template")
    texts = {number: token for token, number in vocabulary.ids.items()}
    tokens = {}
    for name in ("bos_token", "eos_token"):
        key = f"tokenizer.ggml.{name}_id"
        if key in gguf.metadata:
            tokens[name] = texts.get(gguf.integer(key), "")
    add_bos = gguf.flag("tokenizer.ggml.add_bos_token", vocabulary.pre_tokenizer.add_bos)
    if add_bos and not tokens.get("bos_token"):
        gguf.refuse("every prompt begins with 'tokenizer.ggml.bos_token_id', which is missing")
    if add_bos and not mentions(template, "bos_token") and tokens["bos_token"] not in template:
        template = _BOS_FIRST + template
    return with_tokens(template, tokens)


def _is_phi(gguf: GgufFile) -> bool:
    return gguf.text("general.architecture") == gguf_phi3.PHI3.name


def _is_hole(number: int, token: str, kind: int) -> bool:
    # Older writers gave the names they made up for holes the type of real tokens.
    return kind == _Kind.UNUSED or (kind == _Kind.USER_DEFINED and token == f"[PAD{number}]")


def _merges(gguf: GgufFile, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in gguf.strings("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not space or left not in ids or right not in ids or left + right not in ids:
            gguf.refuse(f"merge {merge!r} does not make a token of two")
        merges.append((left, right))
    return merges


def _pre_tokenizer(gguf: GgufFile) -> PreTokenizer:
    name = gguf.text("tokenizer.ggml.pre")
    if name not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        gguf.refuse(f"pre-tokenizer {name!r} is not known to this version; it knows {known}")
    return PRE_TOKENIZERS[name]
