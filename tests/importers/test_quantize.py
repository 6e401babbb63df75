"""What packing weights into blocks costs: nothing where they were quantized, half a step else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.importers.ggml_types import Affine
from edge_agent.importers.quantize import BLOCK, BYTE, NIBBLE, from_affine, symmetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (3, 2)

weights = arrays(np.float32, (3, 2 * BLOCK), elements=st.floats(-65504, 65504, width=32))
halves = arrays(np.float16, SHAPE, elements=st.floats(-60000, 60000, width=16))
nibbles = arrays(np.int16, (*SHAPE, BLOCK), elements=st.integers(0, 15))
signed_bytes = arrays(np.int16, (*SHAPE, BLOCK), elements=st.integers(-128, 127))


@settings(deadline=None)
@given(weights)
def test_rounding_is_at_most_half_a_step(floats: NDArray[np.float32]) -> None:
    packed = symmetric(floats)

    step = packed.scales.repeat(BLOCK, axis=1)
    # The step itself is a rounded float, and tiny ones are subnormal.
    assert (np.abs(packed.floats() - floats) <= step * 0.5001 + 1e-38).all()


@settings(deadline=None)
@given(signed_bytes, halves)
def test_bytes_without_offsets_carry_over_bit_for_bit(
    q: NDArray[np.int16], scale: NDArray[np.float16]
) -> None:
    blocks = Affine(q=q, scale=scale.astype(np.float32), offset=np.zeros(SHAPE, np.float32))

    np.testing.assert_array_equal(from_affine(blocks, bits=BYTE).floats(), blocks.floats())


@settings(deadline=None)
@given(nibbles, halves, halves, st.sampled_from([NIBBLE, BYTE]))
def test_offsets_carry_over_to_the_last_bits_of_a_float(
    q: NDArray[np.int16], scale: NDArray[np.float16], offset: NDArray[np.float16], bits: int
) -> None:
    blocks = Affine(q=q, scale=scale.astype(np.float32), offset=offset.astype(np.float32))

    packed = from_affine(blocks, bits=bits)

    largest = np.abs(blocks.offset) + 16 * np.abs(blocks.scale)
    bound = (largest * 4 * np.finfo(np.float32).eps).repeat(BLOCK, axis=1)
    assert (np.abs(packed.floats() - blocks.floats()) <= bound).all()
    assert packed.values.shape == (*SHAPE, BLOCK * bits // 8)
