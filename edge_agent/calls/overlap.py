"""How much of a text may be the beginning of something that is being looked for."""

from __future__ import annotations


def overlap(text: str, sought: str) -> int:
    """Return the length of the longest end of `text` that is a proper beginning of `sought`."""
    longest = min(len(text), len(sought) - 1)
    return next((n for n in range(longest, 0, -1) if sought.startswith(text[-n:])), 0)
