"""The GGUF reader, with the `gguf` package as the oracle and hostile files as the rule."""

from __future__ import annotations

import contextlib
import resource
import struct
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers import gguf_header
from edge_agent.importers.ggml_blocks import floats
from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.importers.source import check
from edge_agent.text import tokenizer as text
from tests.importers.tiny_gguf import TinyModel, vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"GGUF"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    TinyModel().write(path)
    return path


@pytest.fixture(scope="module")
def tiny_bytes(tiny: Path) -> memoryview:
    return memoryview(tiny.read_bytes())  # which hypothesis can name without printing all of it


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.gguf"


def header(num_tensors: int, num_keys: int, rest: bytes = b"") -> bytes:
    return MAGIC + struct.pack("<IQQ", 3, num_tensors, num_keys) + rest


def string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return string(name) + shape + struct.pack("<IQ", kind, offset)


def test_everything_in_the_file_is_found(tiny: Path) -> None:
    oracle = gguf.GGUFReader(tiny)

    with GgufFile(tiny) as ours:
        assert ours.text("general.architecture") == "llama"
        assert ours.strings("tokenizer.ggml.tokens") == vocabulary()
        assert ours.number("llama.rope.freq_base") == 10_000.0
        assert list(ours.tensors) == [tensor.name for tensor in oracle.tensors]
        for expected in oracle.tensors:
            found = ours.tensor(expected.name)
            raw = ours.rows(found, 0, found.rows)
            expected_floats = gguf.quants.dequantize(expected.data, expected.tensor_type)
            np.testing.assert_array_equal(
                floats(found.kind, raw), expected_floats.reshape(found.rows, -1)
            )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
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
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)

    with pytest.raises(ModelError, match=r"bad\.gguf") as caught:
        GgufFile(path)
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf.*No such file"):
        GgufFile(tmp_path / "none.gguf")


def test_metadata_of_another_type_is_refused(tiny: Path) -> None:
    with GgufFile(tiny) as ours:
        for read, key in (
            (ours.text, "llama.block_count"),
            (ours.integer, "general.architecture"),
            (ours.number, "llama.block_count"),
            (ours.strings, "tokenizer.ggml.token_type"),
            (ours.integers, "general.architecture"),
            (ours.text, "no.such.key"),
            (ours.tensor, "no.such.tensor"),
        ):
            with pytest.raises(ModelError):
                read(key)


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


@settings(max_examples=300, deadline=None)
@given(damages=st.lists(damages(), min_size=1, max_size=2))
def test_a_damaged_model_is_opened_or_refused(
    scratch: Path, tiny_bytes: memoryview, damages: list[Damage]
) -> None:
    data = bytes(tiny_bytes)
    for damage in damages:
        data = damage(data)
    scratch.write_bytes(data)

    with contextlib.suppress(ModelError), open_gguf(scratch) as model:
        check(model)
        text.Tokenizer(model.tokenizer)
        for product in model.products:
            for part in product.parts:
                assert np.isfinite(part.floats(0, part.rows)).all()


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
