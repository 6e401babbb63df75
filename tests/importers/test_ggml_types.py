"""Stored numbers against the `gguf` package's own reading of them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.errors import ModelError
from edge_agent.importers.ggml_types import KINDS, Kind, affine, dense


def kind_of(name: str) -> Kind:
    return KINDS[gguf.GGMLQuantizationType[name].value]


@pytest.mark.parametrize("number", KINDS)
def test_block_sizes_are_those_of_the_format(number: int) -> None:
    kind = gguf.GGMLQuantizationType(number)

    assert KINDS[number].name == kind.name
    assert (KINDS[number].block, KINDS[number].block_bytes) == gguf.GGML_QUANT_SIZES[kind]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["Q4_1", "Q8_0", "F16", "F32"]), st.data())
def test_any_bytes_mean_what_the_format_says(name: str, data: st.DataObject) -> None:
    kind = kind_of(name)
    row_bytes = kind.row_bytes(64)
    raw = data.draw(arrays(np.uint8, (3, row_bytes)))
    with np.errstate(all="ignore"):  # infinity times zero
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])

    try:
        floats = dense(kind, raw)
    except ModelError:
        assert not np.isfinite(expected).all()
        return

    np.testing.assert_array_equal(floats, expected)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "BF16"])
def test_a_type_that_is_not_read_is_named(name: str) -> None:
    kind = kind_of(name)
    raw = np.zeros((1, kind.row_bytes(256)), np.uint8)

    for read in (dense, affine):
        with pytest.raises(ModelError, match=name):
            read(kind, raw)


@pytest.mark.parametrize("name", ["Q4_1", "Q8_0", "F16"])
def test_infinity_is_refused(name: str) -> None:
    kind = kind_of(name)
    raw = np.zeros((1, kind.row_bytes(32)), np.uint8)
    raw[0, :2] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)

    with pytest.raises(ModelError, match="infinity"):
        dense(kind, raw)
