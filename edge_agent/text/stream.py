"""Bytes of tokens to text that may be shown: whole characters only, stop strings never leak.

Knows neither tokens nor models; one `TextStream` belongs to one answer.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextStream:
    """Joins the bytes of an answer and releases text as soon as it is certain."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._held = ""
        self.stopped_by: str | None = None

    def feed(self, data: bytes) -> str:
        """Take the bytes of the next token; return the text that became certain, perhaps "".

        Bytes of an unfinished character wait for the rest of it; text that may be the beginning
        of a stop string waits until it is not. Bytes that can be no character become U+FFFD.
        """
        text = self._held + self._decoder.decode(data)
        if not self._stop:
            return text
        found = min(
            ((at, -len(stop), stop) for stop in self._stop if (at := text.find(stop)) >= 0),
            default=None,
        )
        if found is not None:
            self._held = ""
            self.stopped_by = found[2]
            return text[: found[0]]
        held = max(overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """End the answer; return what was held back.

        The bytes of a character that was cut in the middle are dropped, not shown as U+FFFD.
        """
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
