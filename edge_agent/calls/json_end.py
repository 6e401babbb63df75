"""Finds where a JSON object or string ends, in text that comes in pieces."""

from __future__ import annotations


class JsonEnd:
    """Watches one value from its first character on; brackets inside of strings do not count."""

    def __init__(self, start: int) -> None:
        """Watch the value that begins at index `start` with a bracket or a quote."""
        self.start = start
        self._at = start
        self._depth = 0
        self._is_quoted = False
        self._is_escaped = False

    def find(self, text: str) -> int | None:
        """Return the index after the value's last character; None while `text` ends inside it.

        Each call gets the text of the one before and more; no character is looked at twice.
        """
        for at in range(self._at, len(text)):
            self._take(text[at])
            if not self._depth and not self._is_quoted:
                return at + 1
        self._at = len(text)
        return None

    def _take(self, char: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif char == '"':
            self._is_quoted = not self._is_quoted
        elif self._is_quoted:
            self._is_escaped = char == "\\"
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
