"""Rows of a safetensors file as floats, compared with what was written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.safetensors_file import SafetensorsFile
from tests.importers.tiny_hf import TinyHf

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.importers.safetensors_header import Dtype

NAME = "model.safetensors"


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_type_gives_its_exact_numbers(tmp_path: Path, dtype: Dtype) -> None:
    numbers = np.random.default_rng(1).normal(0, 100, (5, 7)).astype(np.float32)
    numbers[0, :4] = [0, -0.0, 6e-8, -60_000]  # the smallest and almost the largest of F16
    stored = TinyHf(dtype=dtype, more={"extra": numbers}).write(tmp_path)

    with SafetensorsFile.opened(Directory(tmp_path), NAME) as file:
        assert set(file.tensors) == set(stored)
        for name, expected in stored.items():
            tensor = file.tensors[name]
            rows = file.rows(tensor, 0, len(expected) if expected.ndim > 1 else 1)
            assert rows.dtype == np.float32
            np.testing.assert_array_equal(rows, np.atleast_2d(expected))
        np.testing.assert_array_equal(file.rows(file.tensors["extra"], 2, 4), stored["extra"][2:4])
    if dtype == "F32":
        np.testing.assert_array_equal(stored["extra"], numbers)
    np.testing.assert_allclose(stored["extra"], numbers, rtol=2**-8, atol=6e-8)


def write(directory: Path, **tensors: NDArray[np.float32]) -> None:
    save_file(tensors, directory / NAME)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_where_it_is_read(tmp_path: Path, number: float) -> None:
    array = np.zeros((4, 2), np.float32)
    array[2, 1] = number
    write(tmp_path, good=np.ones((2, 2), np.float32), bad=array)

    with SafetensorsFile.opened(Directory(tmp_path), NAME) as file:
        file.rows(file.tensors["good"], 0, 2)
        file.rows(file.tensors["bad"], 0, 2)
        with pytest.raises(
            ModelError, match=r"^model\.safetensors: tensor 'bad' holds infinity or NaN in row 2$"
        ):
            file.rows(file.tensors["bad"], 1, 4)


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, array=np.ones((4, 2), np.float32))

    with SafetensorsFile.opened(Directory(tmp_path), NAME) as file:
        with (tmp_path / NAME).open("r+b") as writer:
            writer.truncate((tmp_path / NAME).stat().st_size - 4)
        with pytest.raises(ModelError, match=r"^model\.safetensors: cut short"):
            file.rows(file.tensors["array"], 0, 4)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a safetensors file"),
        (b"GGUF\3\0\0\0" + bytes(100), "not a safetensors file"),
        (b"\2\0\0\0\0\0\0\0{}x", "the tensors end at byte 10, the file at 11"),
        (b"\2\0\0\0\0\0\0\0{", "a header of 2 bytes in a file of 9"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / NAME).write_bytes(data)

    with (
        pytest.raises(ModelError, match=r"^model\.safetensors: ") as caught,
        SafetensorsFile.opened(Directory(tmp_path), NAME),
    ):
        pass
    assert problem in str(caught.value)


def test_a_header_for_weights_that_are_not_there_allocates_nothing(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"huge": entry}).encode()
    (tmp_path / NAME).write_bytes(len(header).to_bytes(8, "little") + header)

    with (
        pytest.raises(ModelError, match="the tensors end at byte"),
        SafetensorsFile.opened(Directory(tmp_path), NAME),
    ):
        pass
