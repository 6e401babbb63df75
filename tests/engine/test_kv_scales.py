"""The scales of an int8 cache: written whole, read strictly, and their absence says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.engine.kv_scales import read_kv_scales, write_kv_scales
from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import Shape
from edge_agent.modelstore.scales import OWN_SCALES, SCALES

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape(
    layers=3, hidden=64, heads=4, kv_heads=2, head_dim=16, intermediate=64, vocab=8, norm_eps=1e-5
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    scales = np.random.default_rng(0).uniform(0.01, 1, (3, 2, 2, 16)).astype(np.float32)

    write_kv_scales(tmp_path / SCALES, SHAPE, scales)

    assert np.array_equal(read_kv_scales(tmp_path, SHAPE), scales)
    assert [path.name for path in tmp_path.iterdir()] == [SCALES]


def test_scales_made_here_go_before_those_of_the_import(tmp_path: Path) -> None:
    ones = np.ones((3, 2, 2, 16), np.float32)
    write_kv_scales(tmp_path / SCALES, SHAPE, ones)
    write_kv_scales(tmp_path / OWN_SCALES, SHAPE, 2 * ones)

    assert np.array_equal(read_kv_scales(tmp_path, SHAPE), 2 * ones)


def test_scales_of_another_shape_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not belong"):
        write_kv_scales(tmp_path / SCALES, SHAPE, np.ones((3, 2, 2, 8), np.float32))


def test_without_scales_the_command_is_named(tmp_path: Path) -> None:
    package = tmp_path / "tiny"
    package.mkdir()

    with pytest.raises(ModelError, match=r"not made yet.*`edge-agent model calibrate tiny`"):
        read_kv_scales(package, SHAPE)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has 0 bytes, not 768"),
        (bytes(767), "has 767 bytes, not 768"),
        (bytes(768), "not positive numbers"),
        (np.full(192, np.nan, "<f4").tobytes(), "not positive numbers"),
        (np.full(192, np.inf, "<f4").tobytes(), "not positive numbers"),
        (np.full(192, -1, "<f4").tobytes(), "not positive numbers"),
    ],
)
def test_damaged_scales_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / SCALES).write_bytes(content)

    with pytest.raises(ModelError, match=sentence):
        read_kv_scales(tmp_path, SHAPE)


def test_a_directory_in_their_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / SCALES).mkdir()

    with pytest.raises(ModelError, match=SCALES):
        read_kv_scales(tmp_path, SHAPE)
