"""Stored numbers against the `gguf` package's own reading of them, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.errors import ModelError
from edge_agent.importers import quantize
from edge_agent.importers.ggml_blocks import carried, floats, packed
from edge_agent.importers.ggml_types import KINDS, Kind
from edge_agent.importers.source import Blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

READ = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]


def kind_of(name: str) -> Kind:
    return KINDS[gguf.GGMLQuantizationType[name].value]


def random_raw(name: str, *, rows: int, columns: int, seed: int) -> NDArray[np.uint8]:
    row_bytes = kind_of(name).row_bytes(columns)
    return np.random.default_rng(seed).integers(0, 256, (rows, row_bytes), np.uint8)


def assert_same_bits(ours: NDArray[Any], oracle: NDArray[Any]) -> None:
    assert ours.dtype == oracle.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), oracle.view(np.uint32))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(READ), st.data())
def test_any_bytes_mean_what_the_format_says(name: str, data: st.DataObject) -> None:
    raw = data.draw(arrays(np.uint8, (3, kind_of(name).row_bytes(512))))
    with np.errstate(all="ignore"):  # infinity times zero
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])

    try:
        ours = floats(kind_of(name), raw)
    except ModelError:
        assert not np.isfinite(expected).all()
        return

    assert_same_bits(ours, expected)


@pytest.mark.parametrize("name", READ)
def test_random_bytes_mean_what_the_format_says(name: str) -> None:
    """Hypothesis likes repeated bytes, which would hide fields in the wrong order."""
    columns = 2 * max(kind_of(name).block, 8)
    rows = [random_raw(name, rows=1, columns=columns, seed=seed) for seed in range(400)]
    read = 0
    for raw in rows:
        with np.errstate(all="ignore"):
            expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])
        try:
            ours = floats(kind_of(name), raw)
        except ModelError:
            assert not np.isfinite(expected).all()
        else:
            assert_same_bits(ours, expected)
            read += 1
    assert read > 100


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K"])
def test_a_type_that_is_not_read_is_named(name: str) -> None:
    raw = random_raw(name, rows=1, columns=256, seed=0)

    with pytest.raises(ModelError, match=f"type {name} are not read"):
        floats(kind_of(name), raw)
    assert carried(kind_of(name)) is None


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_infinity_and_nan_are_refused(name: str, odd: float) -> None:
    kind = kind_of(name)
    raw = np.zeros((1, kind.row_bytes(256)), np.uint8)
    number = {"F32": np.float32(odd).tobytes(), "BF16": np.float32(odd).tobytes()[2:]}.get(
        name, np.float16(odd).tobytes()
    )
    place = 208 if name == "Q6_K" else 0
    raw[0, place : place + len(number)] = np.frombuffer(number, np.uint8)

    with pytest.raises(ModelError, match=f"{name} .* infinity or NaN"):
        floats(kind, raw)
    if carried(kind):
        with pytest.raises(ModelError, match="infinity or NaN"):
            packed(kind, raw)


def test_those_that_need_no_second_rounding_are_carried() -> None:
    kinds = {kind.name: carried(kind) for kind in KINDS.values()}

    assert {name: blocks for name, blocks in kinds.items() if blocks} == {
        "Q4_0": Blocks(bits=4, block=32),
        "Q4_1": Blocks(bits=4, block=32, has_offsets=True),
        "Q8_0": Blocks(bits=8, block=32),
    }


def finite_raw(name: str, columns: int = 96) -> NDArray[np.uint8]:
    """Return three rows whose scales are finite and of either sign."""
    raw = random_raw(name, rows=3, columns=columns, seed=7)
    blocks = raw.reshape(3, -1, kind_of(name).block_bytes)
    halves = 2 if carried(kind_of(name)) == Blocks(bits=4, block=32, has_offsets=True) else 1
    scales = np.random.default_rng(8).normal(0, 0.1, (*blocks.shape[:2], halves))
    blocks[..., : 2 * halves] = scales.astype(np.float16).view(np.uint8)
    return raw


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0"])
def test_integers_and_scales_of_symmetric_blocks_are_kept(name: str) -> None:
    raw = finite_raw(name)
    blocks = raw.reshape(3, 3, -1)
    stored = blocks[..., 2:]
    steps = np.concatenate([stored & 15, stored >> 4], axis=-1) if name == "Q4_0" else stored

    ours = packed(kind_of(name), raw)

    values = quantize.unpack(ours.values, ours.bits).astype(int)
    expected = steps.astype(int) if name == "Q4_0" else steps.view(np.int8).astype(int) + 128
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(ours.scales, blocks[..., :2].copy().view(np.float16)[..., 0])
    assert ours.scales.dtype == np.float32
    assert ours.offsets is None
    assert ours.zero_points is None
    assert_same_bits(ours.floats(), floats(kind_of(name), raw))


def test_blocks_with_offsets_are_the_same_weights() -> None:
    raw = finite_raw("Q4_1")
    stored = raw.reshape(3, 3, -1)[..., 4:]

    ours = packed(kind_of("Q4_1"), raw)

    values = quantize.unpack(ours.values, 4)
    np.testing.assert_array_equal(values, np.concatenate([stored & 15, stored >> 4], axis=-1))
    np.testing.assert_allclose(ours.floats(), floats(kind_of("Q4_1"), raw), atol=1e-6, rtol=0)
