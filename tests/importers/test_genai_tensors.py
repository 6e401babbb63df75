"""Tensors are read from where they say, and only from regular files of the directory."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.genai_tensors import MAX_FILES, Tensor, TensorFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[TensorFiles]:
    """Return the files of a directory with one, `data`: 8 bytes and `NUMBERS`."""
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "data").write_bytes(b"\xff" * 8 + NUMBERS.tobytes())
    with ExitStack() as stack:
        yield TensorFiles(Directory(inside), stack)


def external(place: dict[str, object], **fields: Any) -> TensorProto:
    """Return a tensor that lies at `place`, by default as large as `NUMBERS`."""
    proto = TensorProto(name="w", dims=[3, 4], data_type=TensorProto.FLOAT)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        proto.external_data.add(key=key, value=str(value))
    for name, value in fields.items():
        proto.ClearField(name)
        if isinstance(value, list):
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    return proto


def test_numbers_are_read_where_they_lie(files: TensorFiles) -> None:
    tensor = files.locate(external({"location": "data", "offset": 8, "length": 48}))

    assert tensor.shape == (3, 4)
    assert tensor.floats(4, 4).tolist() == [4, 5, 6, 7]


def test_offset_and_length_may_be_left_out(files: TensorFiles) -> None:
    tensor = files.locate(external({"location": "data"}, dims=[2], data_type=TensorProto.UINT8))

    assert bytes(tensor.read(0, 2)) == b"\xff\xff"


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32])
def test_small_tensors_stand_in_the_model_in_either_way(
    files: TensorFiles, dtype: type[np.generic]
) -> None:
    numbers = np.array([3, 1, 2], dtype)
    typed = helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(numbers.dtype), [3], numbers)
    raw = numpy_helper.from_array(numbers, "w")

    assert bytes(files.locate(typed).read(0, 3)) == numbers.tobytes()
    assert bytes(files.locate(raw).read(1, 2)) == numbers[1:].tobytes()


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_all_floats_widen_exactly(files: TensorFiles, dtype: int) -> None:
    exact = [1.0, -0.15625, 2.0**-14, 0.0]  # bfloat16 has 8 bits, float16 exponents from -14
    proto = helper.make_tensor("w", dtype, [4], np.array(exact, np.float32))
    array = numpy_helper.to_array(proto)
    tensor = files.locate(numpy_helper.from_array(array, "w"))

    assert tensor.is_float
    assert tensor.floats(0, 4).tolist() == exact


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_is_named(files: TensorFiles, value: float) -> None:
    tensor = files.locate(numpy_helper.from_array(np.array([1, value], np.float32), "w"))

    with pytest.raises(ModelError, match="tensor 'w': number 1 is infinity or NaN"):
        tensor.floats(0, 2)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ({"location": "../secret"}, "is not the plain name of a file"),
        ({"location": "/etc/passwd"}, "is not the plain name of a file"),
        ({"location": ".."}, "is not the plain name of a file"),
        ({"location": ""}, "is not the plain name of a file"),
        ({"location": "a\0b"}, "is not the plain name of a file"),
        ({"location": "missing"}, "No such file"),
        ({"offset": 0}, "external data is described by"),
        ({"location": "data", "key": 1}, "external data is described by"),
        ({"location": "data", "offset": -8}, "offset '-8' is no number of bytes"),
        ({"location": "data", "offset": "8 "}, "is no number of bytes"),
        ({"location": "data", "offset": "٨"}, "is no number of bytes"),
        ({"location": "data", "offset": "0x8"}, "is no number of bytes"),
        ({"location": "data", "offset": 2**64 - 40}, "is no number of bytes"),
        ({"location": "data", "offset": 10**17}, "bytes 100000000000000000 to .* which has 56"),
        ({"location": "data", "offset": 9}, "bytes 9 to 57 of data, which has 56"),
        ({"location": "data", "length": -48}, "length '-48' is no number of bytes"),
        ({"location": "data", "length": 47}, "are not 47 bytes"),
        ({"location": "data", "length": 10**17}, "which has 56"),
    ],
)
def test_a_place_that_is_none_is_refused(
    files: TensorFiles, place: dict[str, object], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        files.locate(external(place))


def test_a_key_that_comes_twice_is_refused(files: TensorFiles) -> None:
    proto = external({"location": "data"})
    proto.external_data.add(key="location", value="other")

    with pytest.raises(ModelError, match="external data is described by"):
        files.locate(proto)


@pytest.mark.parametrize(
    ("dims", "problem"),
    [
        ([-3, -4], "impossible dimensions"),
        ([2**40, 2**40], "impossible dimensions"),
        ([2**62, 4], "impossible dimensions"),
        ([3, 5], r"\[3, 5\] of FLOAT are not 48 bytes"),
    ],
)
def test_dimensions_that_lie_are_refused(files: TensorFiles, dims: list[int], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        files.locate(external({"location": "data", "length": 48}, dims=dims))


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.INT4, TensorProto.DOUBLE, 99])
def test_types_that_are_not_read_are_named(files: TensorFiles, kind: int) -> None:
    with pytest.raises(ModelError, match=r"tensor 'w': type \w+ is not read; these are: FLOAT, "):
        files.locate(external({"location": "data"}, data_type=kind))


def test_bytes_in_the_model_must_be_as_many_as_the_dimensions_say(files: TensorFiles) -> None:
    proto = TensorProto(name="w", dims=[3], data_type=TensorProto.UINT8, raw_data=b"1234")

    with pytest.raises(ModelError, match=r"\[3\] of UINT8 are not 4 bytes"):
        files.locate(proto)


@pytest.mark.parametrize("kind", ["link out", "hard link", "pipe", "directory"])
def test_only_regular_files_of_the_directory_are_read(
    files: TensorFiles, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    there = tmp_path / "model" / "there"
    match kind:
        case "link out":
            there.symlink_to(secret)
        case "hard link":
            there.hardlink_to(secret)
        case "pipe":
            os.mkfifo(there)
        case _:
            there.mkdir()

    with pytest.raises(ModelError, match="there"):
        files.locate(external({"location": "there"}))


def test_files_are_opened_once_and_not_without_end(files: TensorFiles, tmp_path: Path) -> None:
    for number in range(MAX_FILES):
        (tmp_path / "model" / f"{number}").write_bytes(bytes(48))
    for number in range(MAX_FILES):
        assert files.locate(external({"location": number})).fd is not None
    assert files.locate(external({"location": 0})) == files.locate(external({"location": 0}))

    with pytest.raises(ModelError, match=f"more than {MAX_FILES} files"):
        files.locate(external({"location": "data"}))


def test_a_file_that_is_cut_short_meanwhile_is_noticed(files: TensorFiles, tmp_path: Path) -> None:
    tensor = files.locate(external({"location": "data"}))
    os.truncate(tmp_path / "model" / "data", 20)

    with pytest.raises(ModelError, match="tensor 'w': cut short"):
        tensor.floats(0, 12)


@given(
    offset=st.one_of(st.integers(-(2**70), 2**70).map(str), st.text(max_size=5)),
    length=st.one_of(st.integers(-(2**70), 2**70).map(str), st.text(max_size=5)),
    dims=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
)
def test_any_place_is_inside_the_file_or_refused(
    tmp_path_factory: pytest.TempPathFactory, offset: str, length: str, dims: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("model")
    (directory / "data").write_bytes(bytes(56))
    with ExitStack() as stack:
        files = TensorFiles(Directory(directory), stack)
        place: dict[str, object] = {"location": "data", "offset": offset, "length": length}
        try:
            tensor: Tensor = files.locate(external(place, dims=dims))
        except ModelError:
            return
        assert 0 <= tensor.offset <= tensor.offset + 4 * tensor.numbers <= 56
