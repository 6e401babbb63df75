"""What rounding to blocks costs: nothing where weights fit, less than the plain scale elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge_agent.importers.quantize import BYTE, NIBBLE, Packed, centre, pack, symmetric, unpack

F32 = NDArray[np.float32]

BITS = [NIBBLE, BYTE]
BLOCKS = [32, 64, 128]

finite = st.floats(-(2.0**120), 2.0**120, width=32)
rows = arrays(np.float32, (3, 128), elements=finite)
codes = arrays(np.uint8, (2, 3, 32), elements=st.integers(0, 15))


def squared_error(weights: F32, packed: Packed, importance: F32 | None = None) -> float:
    error = (packed.floats().astype(np.float64) - weights) ** 2
    return float((error if importance is None else error * importance).sum())


def plain(weights: F32, bits: int, block: int) -> float:
    """Return the squared error of rounding with the largest magnitude at the end of the codes."""
    blocks = weights.reshape(-1, block).astype(np.float64)
    most = centre(bits) - 1
    scales = np.abs(blocks).max(axis=1, keepdims=True) / most
    safe = np.where(scales > 0, scales, 1)
    return float(((np.rint(blocks / safe) * scales - blocks) ** 2).sum())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_the_error_is_well_below_that_of_the_plain_scale(
    bits: int, block: int, heavy_tailed: bool
) -> None:
    rng = np.random.default_rng(7)
    floats = rng.standard_t(4, (64, 512)) if heavy_tailed else rng.normal(0, 0.02, (64, 512))
    weights = floats.astype(np.float32)

    packed = symmetric(weights, bits=bits, block=block)

    assert squared_error(weights, packed) < 0.96 * plain(weights, bits, block)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_error_is_near_the_least_of_a_long_search(block: int) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (16, 512)).astype(np.float32)
    blocks = weights.reshape(-1, block).astype(np.float64)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    least = np.full(len(blocks), np.inf)
    for reach in [*np.arange(-16, -5, 0.05), *np.arange(5, 16, 0.05)]:
        steps = np.rint(blocks / (extreme / reach)).clip(-8, 7)
        scales = (blocks * steps).sum(1) / (steps * steps).sum(1)
        least = np.minimum(least, ((blocks - steps * scales[:, None]) ** 2).sum(1))

    packed = symmetric(weights, bits=NIBBLE, block=block)

    assert squared_error(weights, packed) < 1.015 * least.sum()


@settings(deadline=None)
@given(rows, st.sampled_from(BITS), st.sampled_from(BLOCKS))
def test_rounding_any_numbers_costs_no_more_than_the_plain_scale(
    weights: F32, bits: int, block: int
) -> None:
    packed = symmetric(weights, bits=bits, block=block)

    assert packed.values.shape == (3, 128 // block, block * bits // 8)
    assert np.isfinite(packed.scales).all()
    # Sums are float32, and scales of tiny weights are subnormal.
    rounding = 1e-6 * float((weights.astype(np.float64) ** 2).sum()) + 1e-70
    assert squared_error(weights, packed) <= plain(weights, bits, block) + rounding


@settings(deadline=None)
@given(
    arrays(np.int16, (2, 64), elements=st.integers(-8, 7)),
    st.floats(2.0**-100, 2.0**100, width=32),
    st.sampled_from([-1, 1]),
    st.sampled_from([32, 64]),
)
def test_weights_on_a_grid_come_back(
    steps: NDArray[np.int16], scale: float, sign: int, block: int
) -> None:
    steps[:, ::32] = -8  # as the quantizers of others leave them
    weights = (steps * np.float32(sign * scale)).astype(np.float32)

    packed = symmetric(weights, bits=NIBBLE, block=block)

    np.testing.assert_allclose(packed.floats(), weights, rtol=1e-6, atol=0)


def test_bytes_on_a_grid_come_back() -> None:
    steps = np.random.default_rng(2).integers(-127, 128, (4, 128))
    steps[:, ::32] = 127
    weights = (steps * np.float32(0.01)).astype(np.float32)

    packed = symmetric(weights, bits=BYTE, block=32)

    np.testing.assert_allclose(packed.floats(), weights, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", BITS)
def test_zeros_stay_zeros(bits: int) -> None:
    weights = np.zeros((2, 64), np.float32)
    weights[1, 40] = 3

    packed = symmetric(weights, bits=bits, block=32)

    np.testing.assert_allclose(packed.floats(), weights, rtol=1e-6)
    assert packed.scales[0].tolist() == [0, 0]


@pytest.mark.parametrize("huge", [3e38, -3e38, 1e-35])
@pytest.mark.parametrize("bits", BITS)
def test_one_huge_or_tiny_weight_overflows_nothing(huge: float, bits: int) -> None:
    weights = np.full((1, 32), 1e-42, np.float32)
    weights[0, 5] = huge

    packed = symmetric(weights, bits=bits, block=32)

    np.testing.assert_allclose(packed.floats()[0, 5], np.float32(huge), rtol=0.2)


@pytest.mark.parametrize("bits", BITS)
def test_important_columns_are_rounded_with_more_care(bits: int) -> None:
    weights = np.random.default_rng(3).normal(0, 1, (64, 128)).astype(np.float32)
    importance = np.exp(np.random.default_rng(4).normal(0, 2, 128)).astype(np.float32)

    careless = symmetric(weights, bits=bits, block=32)
    careful = symmetric(weights, bits=bits, block=32, importance=importance)

    better = squared_error(weights, careful, importance)
    assert better < 0.9 * squared_error(weights, careless, importance)
    assert squared_error(weights, careful) > squared_error(weights, careless)


@pytest.mark.parametrize("importance", [np.zeros(64), np.full(64, 2e30), np.full(64, 1e-40)])
def test_equal_importance_changes_nothing(importance: NDArray[np.float64]) -> None:
    weights = np.random.default_rng(5).normal(0, 1, (8, 64)).astype(np.float32)

    packed = symmetric(weights, bits=NIBBLE, block=64, importance=importance.astype(np.float32))

    expected = symmetric(weights, bits=NIBBLE, block=64)
    np.testing.assert_array_equal(packed.values, expected.values)
    np.testing.assert_allclose(packed.scales, expected.scales, rtol=1e-5)


def test_rows_are_rounded_alike_however_they_are_cut() -> None:
    weights = np.random.default_rng(6).normal(0, 1, (70, 4096)).astype(np.float32)

    whole = symmetric(weights, bits=NIBBLE, block=128)
    parts = [symmetric(weights[row : row + 7], bits=NIBBLE, block=128) for row in range(0, 70, 7)]

    np.testing.assert_array_equal(whole.values, np.concatenate([part.values for part in parts]))
    np.testing.assert_array_equal(whole.scales, np.concatenate([part.scales for part in parts]))


@given(codes)
def test_codes_come_back_from_how_they_are_stored(some: NDArray[np.uint8]) -> None:
    packed = pack(some, NIBBLE)

    assert packed[0, 0, 0] == some[0, 0, 0] | some[0, 0, 1] << 4
    np.testing.assert_array_equal(unpack(packed, NIBBLE), some)
    assert pack(some, BYTE) is some is unpack(some, BYTE)


def test_offsets_and_zero_points_say_what_blocks_stand_for() -> None:
    values = pack(np.arange(32, dtype=np.uint8).reshape(1, 2, 16) % 16, NIBBLE)
    scales = np.array([[1, 2]], np.float32)

    offset = Packed(
        bits=NIBBLE, values=values, scales=scales, offsets=np.array([[0.5, -1]], np.float32)
    )
    pointed = Packed(
        bits=NIBBLE, values=values, scales=scales, zero_points=np.array([[0x3F]], np.uint8)
    )

    assert (offset.block, offset.floats()[0, [0, 15, 16, 31]].tolist()) == (
        16,
        [-7.5, 7.5, -17, 13],
    )
    assert pointed.floats()[0, [0, 15, 16, 31]].tolist() == [-15, 0, -6, 24]
