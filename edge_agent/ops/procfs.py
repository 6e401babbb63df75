"""Reads the small text files in which a kernel tells of itself. What cannot be read is None."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KIB = 1024


def read_text(path: Path) -> str | None:
    """Return what `path` holds."""
    try:
        # No buffer and no text layer: they ask the kernel thrice more than there is to read, and
        # these files are read each second for as long as the daemon runs.
        with path.open("rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """Return the whole number that `path` holds alone; None also for words like `max`."""
    return number((read_text(path) or "").strip())


def read_pairs(path: Path) -> dict[str, str]:
    """Return the first value of each `key : value` line."""
    pairs: dict[str, str] = {}
    for line in (read_text(path) or "").splitlines():
        key, _, value = line.partition(":")
        pairs.setdefault(key.strip(), value.strip())
    return pairs


def read_numbers(path: Path) -> dict[str, int]:
    """Return the value of each `key value` line whose value is a whole number."""
    split = (line.partition(" ") for line in (read_text(path) or "").splitlines())
    return {key: int(value) for key, _, value in split if number(value) is not None}


def kib_as_bytes(pairs: dict[str, str], key: str) -> int | None:
    """Return the bytes of an entry such as `MemTotal: 1024 kB`."""
    count = number(pairs.get(key, "").removesuffix("kB").strip())
    return None if count is None else count * _KIB


def number(text: str) -> int | None:
    """Return the whole number that `text` is, in plain digits."""
    return int(text) if text.isascii() and text.isdecimal() else None
