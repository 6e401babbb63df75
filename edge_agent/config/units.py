"""The units that several sections share: seconds, and sizes as people write them."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

# Nothing here waits longer than a week.
Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]

# A number and a unit; powers of ten and of two as their names say.
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGT]i?B|B)?")
_UNITS: dict[str, int] = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", start=1)
}


def size_bytes(key: str, size: int | str) -> int:
    """Return `size` in bytes.

    Raises:
        ValueError: it is neither a number nor a number with a unit that is known.
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size)
    if found is None:
        msg = f"{key}: expected bytes or a size like 256MiB or 3GB, found {size!r}"
        raise ValueError(msg)
    return round(float(found[1]) * _UNITS[found[2] or "B"])
