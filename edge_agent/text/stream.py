"""Bytes of tokens to text that may be shown: whole characters only, stop strings never leak.

Knows neither tokens nor models; one `TextStream` belongs to one answer.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from edge_agent.calls.overlap import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextStream:
    """Joins the bytes of an answer and releases text as soon as it is certain."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._held = ""
        self.num_chars = 0
        """Characters read so far, the held ones too."""
        self.stopped_by: str | None = None

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def feed(self, data: bytes, *, may_stop: bool = True) -> str:
        """Take the bytes of the next token; return the text that became certain, perhaps "".

        Bytes of an unfinished character wait for the rest of it; text that may be the beginning
        of a stop string waits until it is not. Bytes that can be no character become U+FFFD.
        A stop string that ends within tokens that may not stop is text like any other.
        """
        new = self._decoder.decode(data)
        self.num_chars += len(new)
        text = self._held + new
        if not self._stop:
            return text
        found = self._first_stop(text) if may_stop else None
        if found is not None:
            self._held = ""
            self.stopped_by = found[2]
            return text[: found[0]]
        held = max(overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def _first_stop(self, text: str) -> tuple[int, int, str] | None:
        """Return where the first, longest stop string stands that has a new character in it."""
        num_held = len(self._held)
        return min(
            (
                (at, -len(stop), stop)
                for stop in self._stop
                if (at := text.find(stop, max(num_held - len(stop) + 1, 0))) >= 0
            ),
            default=None,
        )

    def finish(self) -> str:
        """End the answer; return what was held back.

        The bytes of a character that was cut in the middle are dropped, not shown as U+FFFD.
        """
        held, self._held = self._held, ""
        return held
