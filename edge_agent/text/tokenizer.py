"""Text to token ids and ids to bytes, for byte-level BPE tokenizers.

What a user wrote can never become a control token: text goes through a tokenizer that has no added
tokens at all, and control tokens enter as ids, put there by whoever renders the chat template.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import tokenizers

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def byte_alphabet() -> dict[int, int]:
    """Return GPT-2's byte alphabet: code point in a vocabulary string -> byte it stands for.

    Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100, U+0101, …
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


class Tokenizer:
    """One model's vocabulary, ready to use from several threads."""

    def __init__(self, definition: dict[str, Any]) -> None:
        """Build from the content of a `tokenizer.json`.

        Raises:
            ModelError: it is not a byte-level BPE.
        """
        model, decoder = definition.get("model", {}), definition.get("decoder") or {}
        if model.get("type") != "BPE" or decoder.get("type") != "ByteLevel":
            msg = f"tokenizer is {model.get('type')}/{decoder.get('type')}, not byte-level BPE"
            raise ModelError(msg)
        self.control: Mapping[str, int] = {
            token["content"]: token["id"] for token in definition.get("added_tokens", [])
        }
        self._bytes = _token_bytes(model["vocab"], self.control)
        self._control_pattern = re.compile(
            "|".join(re.escape(text) for text in sorted(self.control, key=len, reverse=True))
            or r"(?!)"  # no control tokens: nothing ever matches
        )
        plain = definition | {"added_tokens": [], "post_processor": None}
        try:
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as exc:  # the library raises nothing more precise
            msg = f"tokenizer: {exc}"
            raise ModelError(msg) from exc

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ModelError: unreadable, not JSON, or not a byte-level BPE.
        """
        try:
            definition = json.loads(path.read_bytes())
        except (OSError, ValueError) as exc:
            msg = f"{path}: {exc}"
            raise ModelError(msg) from exc
        return cls(definition)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` as plain text, whatever it looks like."""
        # A batch of one: unlike encode(), it lets other threads run meanwhile, and is faster.
        ids: list[int] = self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def split_control(self, text: str) -> Iterator[str | int]:
        """Yield `text` cut at the control tokens that stand in it: text, id, text and so on.

        Only for text that we or the package wrote.
        """
        end = 0
        for match in self._control_pattern.finditer(text):
            yield text[end : match.start()]
            yield self.control[match.group()]
            end = match.end()
        yield text[end:]

    def holes(self, vocab_size: int) -> list[int]:
        """Return the ids below `vocab_size` that no token has; a model must not choose them."""
        known = len(self._bytes)
        return [i for i in range(vocab_size) if i >= known or self._bytes[i] is None]

    def bytes_of(self, token_id: int) -> bytes:
        """Return the text bytes of a token; control tokens and holes have none."""
        piece = self._bytes[token_id] if token_id < len(self._bytes) else None
        return piece or b""


def _token_bytes(vocab: Mapping[str, int], control: Mapping[str, int]) -> Sequence[bytes | None]:
    """Return the bytes of every token by id, `None` where an id has no token."""
    alphabet = byte_alphabet()
    highest = max([*vocab.values(), *control.values()], default=-1)
    table: list[bytes | None] = [None] * (highest + 1)
    for token, token_id in vocab.items():
        if token not in control:
            table[token_id] = token.translate(alphabet).encode("latin-1", errors="ignore")
    for token_id in control.values():
        table[token_id] = b""
    return table
