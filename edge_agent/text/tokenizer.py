"""Text to token ids and ids to bytes, for byte-level BPE tokenizers.

What a user wrote can never become a control token: text goes through a tokenizer that has no added
tokens at all, and control tokens enter as ids, put there by whoever renders the chat template.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import tokenizers
from msgspec import Raw, Struct

from edge_agent.errors import ModelError
from edge_agent.text.cuts import SURE_CHARS, Cut, can_cut, next_cut, piece_chars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# The largest vocabularies have 256,000; an id far beyond is damage, and would be allocated for.
_MOST_TOKENS = 1 << 20


class AddedToken(Struct, frozen=True):
    """A token that is found in text before any merge; control tokens are such.

    `lstrip` and `rstrip`: the white space before or after it belongs to it.
    """

    id: int
    content: str
    lstrip: bool = False
    rstrip: bool = False


class _Kind(Struct):
    """What decides whether a definition can be read at all."""

    type: str | None = None


class _Vocabulary(Struct):
    """The one part of the model that Python looks at; merges stay text."""

    vocab: dict[str, int]


class _Definition(Struct):
    """The parts of a `tokenizer.json` that are looked at."""

    model: Raw
    decoder: _Kind | None = None
    added_tokens: list[AddedToken] = []


def byte_alphabet() -> dict[int, int]:
    """Return GPT-2's byte alphabet: code point in a vocabulary string -> byte it stands for.

    Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100, U+0101, …
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


class TooMany(Exception):
    """A text has more tokens than it may; the rest of it was not looked at."""

    def __init__(self, least: int) -> None:
        super().__init__(f"at least {least} tokens")
        self.least = least


class Tokenizer:
    """One model's vocabulary, ready to use from several threads."""

    def __init__(self, definition: bytes) -> None:
        """Build from the content of a `tokenizer.json`.

        Raises:
            ModelError: it is damaged, not a byte-level BPE, or makes control tokens of plain text.
        """
        try:
            vocab, added = _read(definition)
            parts = msgspec.json.decode(definition, type=dict[str, Raw])
        except msgspec.DecodeError as exc:
            msg = f"tokenizer: {exc}"
            raise ModelError(msg) from exc
        self.control: Mapping[str, int] = {token.content: token.id for token in added}
        self._pieces = _Pieces(vocab, added)
        del vocab  # 25 MB of strings, before the library takes its own
        self._added = sorted(added, key=lambda token: len(token.content), reverse=True)
        self._pattern = _control_pattern(self._added)
        plain = parts | {"added_tokens": Raw(b"[]"), "post_processor": Raw(b"null")}
        try:
            self._plain = tokenizers.Tokenizer.from_buffer(msgspec.json.encode(plain))
        except Exception as exc:  # the library raises nothing more precise
            msg = f"tokenizer: {exc}"
            raise ModelError(msg) from exc
        cutting = [parts.get(name, Raw(b"null")) for name in ("pre_tokenizer", "normalizer")]
        self._is_verbatim = cutting[1] == Raw(b"null")
        self._can_cut = can_cut(*map(msgspec.json.decode, cutting))
        self._prove_plain()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ModelError: unreadable, or as the constructor says.
        """
        try:
            return cls(path.read_bytes())
        except (OSError, ModelError) as exc:
            msg = f"{path}: {exc}"
            raise ModelError(msg) from exc

    def encode(self, text: str, *, most: int | None = None) -> list[int]:
        """Return the ids of `text` as plain text, whatever it looks like; in linear time.

        Raises:
            TooMany: there are more than `most`, and much of the text is left. Where there is little
                left or none, the caller gets all and can tell the exact number.
        """
        ids: list[int] = []
        pieces: list[_Encoded] = []
        least_chars = None if most is None else piece_chars(most)
        start, cut = 0, self._cut(text, 0, least_chars)
        while start < len(text):
            if most is not None and cut is not None:
                # The ids of a piece that ends amid a word are not sure before the next is known.
                sure = pieces[-1].first_id if pieces and pieces[-1].ends_inside else len(ids)
                if sure > most:
                    raise TooMany(sure)
            end = cut.at if cut else len(text)
            new = self._encode(text[start:end])
            while pieces and pieces[-1].ends_inside and not self._part(ids[-1], new[0]):
                # A merge goes across: the two pieces are one.
                start = pieces[-1].start
                del ids[pieces.pop().first_id :]
                new = self._encode(text[start:end])
            pieces.append(_Encoded(start, len(ids), cut is not None and cut.is_inside))
            ids += new
            start = end
            cut = self._cut(text, start, least_chars)
        return ids

    def _cut(self, text: str, start: int, least_chars: int | None) -> Cut | None:
        """Return the next cut; one inside a word is put between two tokens, as far as seen."""
        cut = next_cut(text, start, least_chars=least_chars) if self._can_cut else None
        if cut is None or not cut.is_inside:
            return cut
        first = cut.at - SURE_CHARS
        lengths = map(len, map(self.bytes_of, self._encode(text[first : cut.at + SURE_CHARS])))
        ends = [end for end in accumulate(lengths, initial=first) if end <= cut.at]
        near = cut.at - SURE_CHARS // 2
        return Cut(ends[-1] if ends[-1] > near else cut.at, is_inside=True)

    def _part(self, left: int, right: int) -> bool:
        """Return whether two tokens, both of letters, stay two when they meet.

        Then so do all before and after them: byte-pair encoding gives a sequence of tokens exactly
        if it gives each pair of neighbours.
        """
        return self._encode((self._pieces[left] + self._pieces[right]).decode()) == [left, right]

    def _encode(self, text: str) -> list[int]:
        # A batch of one: unlike encode(), it lets other threads run meanwhile, and is faster.
        ids: list[int] = self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def split_control(self, text: str) -> Iterator[str | int]:
        """Yield `text` cut at the control tokens that stand in it: text, id, text and so on.

        White space that belongs to them is gone. Only for text that we or the package wrote.
        """
        end = 0
        for match in self._pattern.finditer(text):
            yield text[end : match.start()]
            yield self._added[(match.lastindex or 0) - 1].id
            end = match.end()
        yield text[end:]

    def holes(self, vocab_size: int) -> list[int]:
        """Return the ids below `vocab_size` that no token has; a model must not choose them."""
        return [i for i in range(vocab_size) if not self._pieces.has(i)]

    @property
    def longest_token_bytes(self) -> int | None:
        """Bytes of text that one token stands for at most; None where text is changed before."""
        return self._pieces.longest_bytes if self._is_verbatim else None

    def bytes_of(self, token_id: int) -> bytes:
        """Return the text bytes of a token; control tokens and holes have none."""
        return self._pieces[token_id]

    def _prove_plain(self) -> None:
        """Refuse a vocabulary whose merges lead to a control token."""
        control = set(self.control.values())
        for text in self.control:
            if not control.isdisjoint(self.encode(text)):
                msg = f"tokenizer: plain text {text!r} becomes a control token"
                raise ModelError(msg)


class _Encoded(NamedTuple):
    """A piece of text, whose ids are known."""

    start: int
    first_id: int
    ends_inside: bool


class _Pieces:
    """The bytes of every token, end to end in one buffer: 200,000 objects would be 10 MB more."""

    def __init__(self, vocab: Mapping[str, int], added: Sequence[AddedToken]) -> None:
        """Lay out `vocab`; tokens in `added` are known and have no bytes.

        Raises:
            ModelError: an id is negative or absurdly high.
        """
        control = {token.content for token in added}
        self._control = frozenset(token.id for token in added)
        texts = sorted((token_id, text) for text, token_id in vocab.items() if text not in control)
        ids = [*self._control, *(token_id for token_id, _ in texts)]
        if ids and not 0 <= min(ids) <= max(ids) < _MOST_TOKENS:
            msg = f"tokenizer: ids from {min(ids)} to {max(ids)}, the limit is {_MOST_TOKENS - 1}"
            raise ModelError(msg)
        alphabet = byte_alphabet()
        buffer = bytearray()
        self._ends = array("I", [0])
        for token_id, text in texts:
            self._ends.extend([len(buffer)] * (token_id + 1 - len(self._ends)))
            buffer += text.translate(alphabet).encode("latin-1", errors="ignore")
            self._ends.append(len(buffer))
        self._buffer = bytes(buffer)

    @property
    def longest_bytes(self) -> int:
        """The size of the longest token, at least 1."""
        return max((end - start for start, end in pairwise(self._ends)), default=1) or 1

    def __getitem__(self, token_id: int) -> bytes:
        if token_id + 1 >= len(self._ends):
            return b""
        return self._buffer[self._ends[token_id] : self._ends[token_id + 1]]

    def has(self, token_id: int) -> bool:
        """Return whether an id has a token: no token of text is empty."""
        return token_id in self._control or bool(self[token_id])


def _read(definition: bytes) -> tuple[dict[str, int], list[AddedToken]]:
    """Return the vocabulary of a definition and its added tokens."""
    looked_at = msgspec.json.decode(definition, type=_Definition)
    kind = msgspec.json.decode(looked_at.model, type=_Kind).type
    decoder = looked_at.decoder.type if looked_at.decoder else None
    if (kind, decoder) != ("BPE", "ByteLevel"):
        msg = f"tokenizer is {kind}/{decoder}, not byte-level BPE"
        raise ModelError(msg)
    return msgspec.json.decode(looked_at.model, type=_Vocabulary).vocab, looked_at.added_tokens


def _control_pattern(added: Sequence[AddedToken]) -> re.Pattern[str]:
    """Return what finds the tokens, and the white space they take in: one group for each."""
    space = (r"", r"\s*")
    alternatives = [
        f"({space[token.lstrip]}{re.escape(token.content)}{space[token.rstrip]})" for token in added
    ]
    return re.compile("|".join(alternatives) or r"(?!)")  # no tokens: nothing ever matches
