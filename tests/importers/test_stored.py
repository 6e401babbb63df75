"""The kind of a weight follows from the shapes of its arrays; contradictions are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.stored import Stored, stored
from edge_agent.importers.weights import Region


def regions(**shapes: tuple[int, ...]) -> dict[str, Region]:
    """Return regions of weight `w`; dtypes and places do not matter here."""
    dtype = np.dtype(np.uint8)
    return {f"w.{name}": Region(dtype=dtype, shape=at, offset=0) for name, at in shapes.items()}


@given(
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32, 64, 128, 256]),
    blocks=st.integers(1, 40),
    rows=st.integers(1, 9),
)
def test_bits_and_block_follow_from_the_columns(
    bits: int, block: int, blocks: int, rows: int
) -> None:
    arrays = regions(values=(rows, blocks, block * bits // 8), scales=(rows, blocks))

    found = stored(arrays, "w", columns=block * blocks)

    assert found == Stored(name="w", rows=rows, columns=block * blocks, bits=bits, block=block)
    assert found.blocks == blocks


def test_floats_have_32_bits() -> None:
    found = stored(regions(floats=(7, 48)), "w", columns=48)

    assert (found.rows, found.columns, found.is_float) == (7, 48, True)


def test_what_blocks_have_beside_scales_is_seen() -> None:
    arrays = regions(values=(5, 3, 16), scales=(5, 3), offsets=(3, 5), zero_points=(5, 2))

    found = stored(arrays, "w", columns=96)

    assert (found.has_offsets, found.has_zero_points) == (True, True)


@pytest.mark.parametrize(
    ("shapes", "columns", "sentence"),
    [
        ({}, 64, "w: neither floats nor values"),
        ({"floats": (5, 64)}, 65, r"w\.floats: \[5, 64\] are no .* rows of 65 weights"),
        ({"values": (5, 2, 16), "scales": (5, 2)}, 65, r"w\.values: \[5, 2, 16\]"),
        ({"values": (5, 2, 16), "scales": (5, 2)}, 48, r"w\.values: \[5, 2, 16\]"),
        ({"values": (5, 2, 24), "scales": (5, 2)}, 64, r"w\.values: \[5, 2, 24\]"),
        ({"values": (5, 0, 16), "scales": (5, 0)}, 0, r"w\.values: \[5, 0, 16\]"),
        ({"values": (5, 2, 16)}, 64, r"w\.scales: missing, expected \[5, 2\]"),
        ({"values": (5, 2, 16), "scales": (2, 5)}, 64, r"w\.scales: \[2, 5\], expected \[5, 2\]"),
        (
            {"values": (5, 2, 16), "scales": (5, 2), "offsets": (5, 2)},
            64,
            r"w\.offsets: \[5, 2\], expected \[2, 5\]",
        ),
        (
            {"values": (5, 3, 16), "scales": (5, 3), "zero_points": (5, 3)},
            96,
            r"w\.zero_points: \[5, 3\], expected \[5, 2\]",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    shapes: dict[str, tuple[int, ...]], columns: int, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        stored(regions(**shapes), "w", columns=columns)
