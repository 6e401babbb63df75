"""Damage to the header of a file, as hypothesis draws it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

# The header of the tiny model is a little longer; damage to weights is not of interest here.
HEADER_BYTES = 12_000


def hostile_numbers() -> st.SearchStrategy[int]:
    edges = [0, 1, 5, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1]
    return st.one_of(st.sampled_from(edges), st.integers(0, (1 << 64) - 1))


@dataclass(frozen=True)
class Damage:
    """Other bytes in place of some: a flip, a cut, something removed, or put between."""

    start: int
    stop: int | None
    new: bytes

    def __call__(self, data: bytes) -> bytes:
        return data[: self.start] + self.new + (b"" if self.stop is None else data[self.stop :])


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    start = draw(st.integers(0, HEADER_BYTES))
    match draw(st.sampled_from(["flip", "number", "truncate", "splice"])):
        case "flip":
            new = draw(st.binary(min_size=1, max_size=4))
            return Damage(start, start + len(new), new)
        case "number":
            size = draw(st.sampled_from([4, 8]))
            return Damage(start, start + size, struct.pack("<Q", draw(hostile_numbers()))[:size])
        case "truncate":
            return Damage(start, None, b"")
        case _:
            stop = draw(st.integers(0, HEADER_BYTES))  # what lies between comes twice, or is gone
            return Damage(start, stop, draw(st.binary(max_size=40)))
