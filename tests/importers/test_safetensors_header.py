"""The header of a safetensors file, with the `safetensors` package as the oracle."""

from __future__ import annotations

import json
import tracemalloc
from math import prod
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from edge_agent.errors import ModelError
from edge_agent.importers.safetensors_header import (
    ITEM_BYTES,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    header_bytes,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.safetensors_header import Tensor

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "c": {"dtype": "F16", "shape": [1, 2], "data_offsets": [32, 36]},
}
GOOD_BYTES = 36


def parsed(header: Mapping[str, Any] | bytes, weights_bytes: int = GOOD_BYTES) -> dict[str, Tensor]:
    """Parse a header as if a file of `weights_bytes` of weights followed it."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parse(data, LENGTH_BYTES + len(data) + weights_bytes)


def oracle(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return what the reference implementation reads in a whole file."""
    tensors: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    return tensors


def test_tensors_are_found_where_they_lie() -> None:
    data = json.dumps(GOOD).encode()
    start = LENGTH_BYTES + len(data)

    tensors = parse(data, start + GOOD_BYTES)

    assert [(t.name, t.dtype, t.shape, t.offset - start) for t in tensors.values()] == [
        ("a", "F32", (2, 3), 0),
        ("b", "BF16", (4,), 24),
        ("c", "F16", (1, 2), 32),
    ]


def test_padding_after_the_header_and_no_tensors_at_all_are_fine() -> None:
    assert parsed(b"{}      ", 0) == {}
    assert list(parsed(json.dumps(GOOD).encode() + b"   ")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("start", "file_bytes", "problem"),
    [
        (b"", 0, "not a safetensors file"),
        (b"\1\0\0", 3, "not a safetensors file"),
        (b"\xff" * 8, 1 << 40, "not a safetensors file: a header of 18446744073709551615 bytes"),
        ((100).to_bytes(8, "little"), 107, "a header of 100 bytes in a file of 107"),
        (
            (MAX_HEADER_BYTES + 1).to_bytes(8, "little"),
            1 << 40,
            f"a header of {MAX_HEADER_BYTES + 1} bytes, the limit is {MAX_HEADER_BYTES}",
        ),
    ],
)
def test_a_length_that_cannot_be_is_refused(start: bytes, file_bytes: int, problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        header_bytes(start, file_bytes)

    assert problem in str(caught.value)


def test_a_length_that_fits_is_returned() -> None:
    assert header_bytes((100).to_bytes(8, "little"), 108) == 100


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("header", "weights_bytes", "problem"),
    [
        (one(dtype="F8_E4M3"), 8, "'t' is of type 'F8_E4M3'; this version reads BF16, F16, F32"),
        (one(dtype="I64", shape=[1]), 8, "'t' is of type 'I64'"),
        (one(dtype=7), 8, "'t': Expected `str`, got `int` - at `$.dtype`"),
        (one(shape=[-2]), 8, "Expected `int` >= 0 - at `$.shape[0]`"),
        (one(shape=[2.0]), 8, "at `$.shape[0]`"),
        (one(shape=[1 << 60]), 8, "at `$.shape[0]`"),
        (one(shape=[1 << 200]), 8, "at `$.shape[0]`"),
        (one(shape=[1] * 9), 8, "at `$.shape`"),
        (one(shape=[1 << 47, 1 << 47]), 8, "bytes 0 to 8 do not hold F32"),
        (one(shape=[1 << 32, 1 << 32]), 0, "bytes 0 to 8 do not hold F32"),
        (one(offsets=[0]), 8, "at `$.data_offsets`"),
        (one(offsets=[-8, 0]), 8, "Expected `int` >= 0 - at `$.data_offsets[0]`"),
        (one(offsets=[8, 0]), 8, "bytes 8 to 0 do not hold F32 [2]"),
        (one(offsets=[0, 4]), 4, "bytes 0 to 4 do not hold F32 [2]"),
        (one(offsets=[8, 16]), 16, "'t' begins at byte 8 of the weights, expected 0"),
        (one(), 4, "the tensors end at byte"),
        (one(), 12, "the tensors end at byte"),
        ({"t": [1]}, 8, "'t': Expected `object`"),
        ({"t": one()["t"] | {"more": 1}}, 8, "unknown field `more`"),
        ({**one(), "u": one()["t"]}, 8, "'u' begins at byte 0 of the weights, expected 8"),
        ({**one(), "u": one(offsets=[4, 12])["t"]}, 12, "'u' begins at byte 4"),
        ({**one(), "u": one(offsets=[9, 17])["t"]}, 17, "'u' begins at byte 9"),
        (b'{"t": 1, "t": 1}', 0, "the key 't' comes twice"),
        (b"[1]", 0, "no JSON object"),
        (b"{" * 10, 0, "header: "),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    header: dict[str, Any] | bytes, weights_bytes: int, problem: str
) -> None:
    with pytest.raises(ModelError) as caught:
        parsed(header, weights_bytes)

    assert problem in str(caught.value)


def places() -> st.SearchStrategy[int]:
    return st.integers(-2, 40) | st.integers(-(2**70), 2**70)


MUTATIONS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*ITEM_BYTES, "F64", "", None]),
            "shape": st.lists(places(), max_size=9),
            "data_offsets": st.lists(places(), min_size=1, max_size=3),
        }
    )
    | st.integers(),
)


@settings(max_examples=300, deadline=None)
@given(changes=MUTATIONS, weights_bytes=st.just(GOOD_BYTES) | st.integers(0, 100))
def test_a_changed_header_is_refused_or_one_that_the_oracle_reads_too(
    changes: dict[str, Any], weights_bytes: int
) -> None:
    data = json.dumps(GOOD | changes).encode()
    try:
        tensors = parsed(data, weights_bytes)
    except ModelError:
        return

    whole = len(data).to_bytes(8, "little") + data + bytes(weights_bytes)
    expected = {name: (facts["dtype"], tuple(facts["shape"])) for name, facts in oracle(whole)}
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == expected
    assert all(t.num_bytes == prod(t.shape) * ITEM_BYTES[t.dtype] for t in tensors.values())


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    kept=st.floats(0, 1.5),
)
def test_damaged_bytes_are_refused_or_read_as_the_oracle_does(
    changes: list[tuple[int, int]], kept: float
) -> None:
    data = bytearray(json.dumps(GOOD).encode())
    for place, value in changes:
        data[place % len(data)] = value
    if kept < 1:
        del data[int(kept * len(data)) :]
    tracemalloc.start()
    try:
        tensors = parsed(bytes(data))
    except ModelError:
        return
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 1 << 20
    whole = len(data).to_bytes(8, "little") + data + bytes(GOOD_BYTES)
    try:
        names = {name for name, _ in oracle(whole)}
    except SafetensorError:
        # The oracle also looks at the metadata, which we have no use for.
        assert json.loads(data)["__metadata__"] != GOOD["__metadata__"]
    else:
        assert names == set(tensors)


def test_a_hostile_header_costs_memory_only_in_proportion() -> None:
    header = b'{"t":[' + b"{}," * (1 << 16) + b"{}]}"
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            parsed(header)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 50 * len(header)  # of the largest that is read: 200 MB
