"""Checkpoints in one file and in shards, and indexes that lie."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_checkpoint import INDEX, MAX_SHARDS, open_checkpoint
from tests.importers.tiny_hf import TinyHf

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = (f"model-0000{shard}-of-00002.safetensors" for shard in (1, 2))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    TinyHf(shards=2).write(tmp_path)
    return tmp_path


@pytest.fixture
def index(sharded: Path) -> bytes:
    return (sharded / INDEX).read_bytes()


def weight_map(directory: Path) -> dict[str, str]:
    content: dict[str, dict[str, str]] = json.loads((directory / INDEX).read_text())
    return content["weight_map"]


def write_index(directory: Path, content: Any) -> None:
    (directory / INDEX).write_text(json.dumps(content))


def opened(directory: Path) -> None:
    with open_checkpoint(Directory(directory)):
        pass


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_all_tensors_are_found_in_whatever_files(tmp_path: Path, shards: int) -> None:
    stored = TinyHf(shards=shards).write(tmp_path)

    with open_checkpoint(Directory(tmp_path)) as checkpoint:
        assert set(checkpoint.files) == set(stored)
        for name, expected in stored.items():
            rows = len(expected) if expected.ndim > 1 else 1
            assert checkpoint.tensor(name).shape == expected.shape
            np.testing.assert_array_equal(checkpoint.rows(name, 0, rows), np.atleast_2d(expected))


def test_a_missing_tensor_is_named(sharded: Path) -> None:
    with (
        open_checkpoint(Directory(sharded)) as checkpoint,
        pytest.raises(ModelError, match=r"tensor 'lm_head\.weight' is missing"),
    ):
        checkpoint.tensor("lm_head.weight")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../other.safetensors", "not the plain name of a file"),
        ("/tmp/other.safetensors", "not the plain name of a file"),
        ("pytorch_model.bin", "'pytorch_model.bin' is no safetensors file"),
        ("absent.safetensors", "absent.safetensors: "),
        (TWO, "does not hold the tensor"),
    ],
)
def test_an_index_that_names_the_wrong_file_is_refused(
    sharded: Path, name: str, problem: str
) -> None:
    shard_of = weight_map(sharded)
    tensor = next(tensor for tensor, shard in shard_of.items() if shard == ONE)
    write_index(sharded, {"weight_map": shard_of | {tensor: name}})

    with pytest.raises(ModelError) as caught:
        opened(sharded)
    assert problem in str(caught.value)


def test_a_tensor_that_the_index_leaves_out_is_named(sharded: Path) -> None:
    shard_of = weight_map(sharded)
    del shard_of["model.norm.weight"]
    write_index(sharded, {"weight_map": shard_of})

    with pytest.raises(ModelError, match=r"does not list the tensor 'model\.norm\.weight' of"):
        opened(sharded)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "no JSON object"),
        ({}, "missing required field `weight_map`"),
        ({"weight_map": {"a": 1}}, "Expected `str`, got `int`"),
        (
            {"weight_map": {str(i): f"{i}.safetensors" for i in range(MAX_SHARDS + 1)}},
            f"{MAX_SHARDS + 1} files, the limit is {MAX_SHARDS}",
        ),
    ],
)
def test_an_index_that_is_none_is_refused(sharded: Path, content: Any, problem: str) -> None:
    write_index(sharded, content)

    with pytest.raises(ModelError, match=r"^model\.safetensors\.index\.json: ") as caught:
        opened(sharded)
    assert problem in str(caught.value)


def test_a_shard_that_is_not_a_file_of_the_directory_is_refused(
    sharded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / TWO
    shutil.move(sharded / TWO, elsewhere)

    (sharded / TWO).symlink_to(elsewhere)
    with pytest.raises(ModelError, match="a link that leaves"):
        opened(sharded)

    (sharded / TWO).unlink()
    os.link(elsewhere, sharded / TWO)
    with pytest.raises(ModelError, match="a hard link"):
        opened(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")

    with pytest.raises(ModelError, match=f"{name} is a pickle, which can run any code"):
        opened(tmp_path)


def test_a_directory_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor"):
        opened(tmp_path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
    kept=st.floats(0, 2),
)
def test_a_damaged_index_is_read_or_refused(
    sharded: Path, index: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    data = bytearray(index)
    for place, value in changes:
        data[place % len(data)] = value
    if kept < 1:
        del data[int(kept * len(data)) :]
    (sharded / INDEX).write_bytes(data)

    with contextlib.suppress(ModelError):
        opened(sharded)
