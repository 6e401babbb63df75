"""Bytes of an answer to what may be told of it: text, and calls if tools were offered."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.calls.reader import ToolCallReader
from edge_agent.messages import ToolCall
from edge_agent.text.stream import TextStream

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from edge_agent.calls.reader import Piece

_ID_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools that an answer may call."""

    names: Collection[str]
    opening: str = ""
    """What the answer begins with before its first token, so that it is a call."""
    tags: Mapping[int, bytes] = field(default_factory=dict)
    """Text of the control tokens that stand around calls; in other answers they have none."""
    many: bool = True
    """Whether an answer may hold more than one call."""


class AnswerText:
    """One answer, from bytes to pieces of text and calls."""

    def __init__(self, *, stop: Sequence[str] = (), offer: Offer | None = None) -> None:
        self._stream = TextStream(stop)
        self._offer = offer
        self._reader: ToolCallReader | None = None
        self._opened: list[Piece] = []
        self.num_calls = 0
        if offer:
            self._reader = ToolCallReader(offer.names, _new_id)
            self._opened = self._reader.feed(offer.opening)

    @property
    def stopped_by(self) -> str | None:
        """The stop string that came up, if one did."""
        return self._stream.stopped_by

    @property
    def num_chars(self) -> int:
        """Characters read so far; the opening of a call is not counted."""
        return self._stream.num_chars

    @property
    def num_settled(self) -> int:
        """How many of them are held back no longer: told as text, taken into a call, or dropped."""
        num_held = self._stream.num_held + (self._reader.num_held if self._reader else 0)
        return max(self._stream.num_chars - num_held, 0)

    @property
    def is_enough(self) -> bool:
        """Whether the answer is to end, by a stop string or with its only call."""
        is_only = self._offer is not None and not self._offer.many
        return self.stopped_by is not None or (is_only and self.num_calls > 0)

    def feed(self, token: int, data: bytes, *, may_stop: bool = True) -> list[Piece]:
        """Take the next token with its text bytes; return what became certain, in order.

        Without `may_stop` no stop string can end in this token.
        """
        if self._offer:
            data = self._offer.tags.get(token, data)
        text = self._stream.feed(data, may_stop=may_stop)
        if self._reader is None:
            return [text] if text else []
        opened, self._opened = self._opened, []
        return self._counted([*opened, *self._reader.feed(text)])

    def finish(self) -> list[Piece]:
        """End the answer; return what was held back, unless the answer has its only call."""
        if self._offer and self.num_calls and not self._offer.many:
            return []
        text = self._stream.finish()
        if self._reader is None:
            return [text] if text else []
        return self._counted([*self._opened, *self._reader.feed(text), *self._reader.finish()])

    def _counted(self, pieces: list[Piece]) -> list[Piece]:
        """Return `pieces`, up to the first call if there may be no more."""
        for at, piece in enumerate(pieces, start=1):
            if isinstance(piece, ToolCall):
                self.num_calls += 1
                if self._offer and not self._offer.many:
                    return pieces[:at]
        return pieces


def _new_id() -> str:
    return f"call_{secrets.token_hex(_ID_BYTES)}"
