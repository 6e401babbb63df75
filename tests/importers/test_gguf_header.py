"""The header parser: every kind of lie is refused, and costs neither memory nor time."""

from __future__ import annotations

import contextlib
import resource
import struct
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers import gguf_header
from tests.importers.damage import Damage, damages
from tests.importers.tiny_gguf import TinyModel

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"GGUF"


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> memoryview:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    TinyModel().write(path)
    return memoryview(path.read_bytes())  # which hypothesis can name without printing all of it


def header(num_tensors: int, num_keys: int, rest: bytes = b"") -> bytes:
    return MAGIC + struct.pack("<IQQ", 3, num_tensors, num_keys) + rest


def string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return string(name) + shape + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cut short"),
        (b"GG", "cut short"),
        (b"ONNX" + bytes(20), "not a GGUF file"),
        (MAGIC + struct.pack("<IQQ", 1, 0, 0), "GGUF version 1"),
        (header(1 << 40, 0), "1099511627776 tensors, the limit is"),
        (header(0, 1 << 60), "metadata keys, the limit is"),
        (header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, 1 << 20)), "cut short"),
        (
            header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 4, 1 << 50)),
            "items in 'k', the limit",
        ),
        (header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 9, 0) + bytes(9)), "unknown or nested"),
        (header(0, 1, string(b"k") + struct.pack("<I", 77)), "unknown or nested"),
        (header(0, 1, string(b"k") + struct.pack("<IQ", 8, 1 << 26)), "cut short"),
        (header(0, 1, string(b"\xff") + bytes(8)), "not UTF-8"),
        (header(0, 1, string(b"k" * 1025)), "1025 bytes of name, the limit is 1024"),
        (header(1, 0, string(b"t" * 1025)), "1025 bytes of name"),
        (header(0, 2, (string(b"k") + bytes(4) + b"\1") * 2), "comes twice"),
        (header(1, 0, tensor(b"t", (), 0, 0)), "0 dimensions"),
        (header(1, 0, tensor(b"t", (1,) * 5, 0, 0)), "5 dimensions"),
        (header(1, 0, tensor(b"t", (1 << 33, 1 << 33), 0, 0)), "'t' has"),
        (header(1, 0, tensor(b"t", (0,), 0, 0)), "'t' has 1 x 0 weights"),
        (header(1, 0, tensor(b"t", (32,), 999, 0)), "type 999"),
        (header(1, 0, tensor(b"t", (33,), 8, 0)), "not whole blocks of 32"),
        (header(1, 0, tensor(b"t", (32,), 8, 7) + bytes(99)), "not aligned"),
        (header(1, 0, tensor(b"t", (32,), 8, 0)), "'t' ends at byte"),
        (header(1, 0, tensor(b"t", (32,), 8, 1 << 62)), "'t' ends at byte"),
        (header(2, 0, tensor(b"t", (32,), 8, 0) * 2 + bytes(99)), "name comes twice"),
        (
            header(2, 0, tensor(b"t", (32,), 8, 0) + tensor(b"u", (8,), 0, 32) + bytes(99)),
            "'t' and 'u' overlap",
        ),
        (header(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 24)), "power of two"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        gguf_header.parse(data, len(data))

    assert problem in str(caught.value)


def test_weights_may_lie_behind_what_was_read() -> None:
    data = header(1, 0, tensor(b"t", (32,), 8, 0))

    found = gguf_header.parse(data, len(data) + 100)

    assert found.tensors["t"].offset == -(-len(data) // 32) * 32


@settings(max_examples=300, deadline=None)
@given(damages=st.lists(damages(), min_size=1, max_size=3))
def test_a_damaged_header_is_read_or_refused_and_costs_no_memory(
    tiny_bytes: memoryview, damages: list[Damage]
) -> None:
    data = bytes(tiny_bytes)
    for damage in damages:
        data = damage(data)

    tracemalloc.start()
    try:
        found = gguf_header.parse(data, len(data))
    except ModelError:
        pass
    else:
        spans = sorted((t.offset, t.offset + t.num_bytes) for t in found.tensors.values())
        assert max((stop for _, stop in spans), default=0) <= len(data)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 20 * len(tiny_bytes)


def integers() -> Iterator[st.SearchStrategy[int]]:
    yield st.integers(0, 4)
    yield st.integers(0, 2**64 - 1)


@settings(max_examples=300, deadline=None)
@given(
    counts=st.tuples(*(st.one_of(*integers()) for _ in range(2))),
    rest=st.binary(max_size=200),
)
def test_random_counts_never_do_more_than_be_refused(counts: tuple[int, int], rest: bytes) -> None:
    data = MAGIC + struct.pack("<IQQ", 3, *counts) + rest
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with contextlib.suppress(ModelError):
        gguf_header.parse(data, len(data))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
