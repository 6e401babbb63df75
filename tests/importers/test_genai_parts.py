"""Rows are read when asked for, whatever way they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.genai import open_genai
from edge_agent.importers.genai_parts import part, vector
from edge_agent.importers.genai_tensors import Tensor
from edge_agent.importers.genai_weights import BlockWeight, FloatWeight
from edge_agent.importers.source import Blocks
from tests.importers.tiny_genai import TinyGenai

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def tensor(array: NDArray[np.generic]) -> Tensor:
    """Return a tensor that holds `array`."""
    dtype = {"f4": "FLOAT", "f2": "FLOAT16", "u1": "UINT8"}[array.dtype.str[1:]]
    return Tensor(name="w", shape=array.shape, dtype=dtype, inline=array.tobytes())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_any_rows_of_floats_are_read(dtype: type[np.generic], *, is_transposed: bool) -> None:
    stored = (NUMBERS.T if is_transposed else NUMBERS).astype(dtype)
    rows = part(FloatWeight(tensor=tensor(stored), is_transposed=is_transposed))

    assert (rows.name, rows.rows, rows.columns, rows.blocks) == ("w", 3, 4, None)
    for start in range(3):
        for stop in range(start, 4):
            floats = rows.floats(start, stop)
            np.testing.assert_array_equal(floats, NUMBERS[start:stop], strict=True)
            assert floats.flags.c_contiguous
    with pytest.raises(ModelError, match="tensor 'w': rows 0 to 3 are floats, not blocks"):
        rows.packed(0, 3)


def test_a_vector_is_one_row() -> None:
    row = vector(tensor(NUMBERS[0]))

    assert (row.rows, row.columns) == (1, 4)
    np.testing.assert_array_equal(row.floats(0, 1), NUMBERS[:1])


def blocks(*, columns: int = 48, scale: float = 0.5) -> BlockWeight:
    """Return 3 rows of blocks of 16, the last of which may be partly filled."""
    across = -(-columns // 16)
    codes = np.arange(3 * across * 8, dtype=np.uint8).reshape(3, across, 8)
    scales = np.full((3, across), scale, np.float32)
    scales[1] = -1
    points = np.array([[0x98, 0x07], [0x88, 0x08], [0x10, 0x02]], np.uint8)
    return BlockWeight(
        rows=3,
        columns=columns,
        bits=4,
        block=16,
        values=tensor(codes),
        scales=tensor(scales),
        zero_points=tensor(points),
    )


def test_blocks_are_handed_over_as_they_are_stored() -> None:
    weight = blocks()
    rows = part(weight)

    packed = rows.packed(1, 3)

    assert rows.blocks == Blocks(bits=4, block=16, has_zero_points=True)
    assert packed.values.tobytes() == weight.values.inline[24:]
    assert packed.scales.tolist() == [[-1] * 3, [0.5] * 3]
    assert packed.zero_points is not None
    assert packed.zero_points.tolist() == [[0x88, 0x08], [0x10, 0x02]]


def test_blocks_mean_scale_times_code_less_zero_point() -> None:
    floats = part(blocks()).floats(0, 3)

    codes = np.arange(72, dtype=np.uint8).reshape(3, 3, 8)
    unpacked = np.stack([codes & 15, codes >> 4], axis=-1).reshape(3, 3, 16).astype(np.float32)
    points = np.array([[8, 9, 7], [8, 8, 8], [0, 1, 2]], np.float32)[..., None]
    scales = np.array([0.5, -1, 0.5], np.float32)[:, None, None]
    np.testing.assert_array_equal(floats, ((unpacked - points) * scales).reshape(3, 48))


def test_what_fills_the_last_block_is_left_out() -> None:
    rows = part(blocks(columns=40))

    assert rows.blocks is None
    np.testing.assert_array_equal(rows.floats(0, 3), part(blocks()).floats(0, 3)[:, :40])


def test_weights_too_large_for_floats_are_refused() -> None:
    rows = part(blocks(scale=3e38))

    rows.floats(1, 2)
    with pytest.raises(ModelError, match="too large: a weight is infinite"):
        rows.floats(0, 1)


def test_what_is_asked_for_twice_is_the_same(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)

    with open_genai(tmp_path) as model:
        rows = model.products[1].parts[0]
        np.testing.assert_array_equal(rows.floats(3, 9), rows.floats(0, rows.rows)[3:9])
        assert rows.packed(3, 9).values.tobytes() == rows.packed(0, 9).values[3:].tobytes()
