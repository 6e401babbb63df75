"""The weights file while it is written: regions on pages, filled in any order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.importers import weights
from edge_agent.importers.weights import ALIGNMENT_BYTES, WeightsFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def test_regions_lie_on_pages_and_hold_what_was_written_in_any_order(tmp_path: Path) -> None:
    with WeightsFile(tmp_path / "weights.bin") as out:
        out.reserve("small", np.float32, (3,))
        out.reserve("large", np.uint8, (4, 2))
        out.write("large", 2, np.full((2, 2), 7, np.uint8))
        out.write("small", 0, np.arange(3, dtype=np.float32))
        out.write("large", 0, np.full((2, 2), 9, np.uint8))
        out.flush()

    data = (tmp_path / "weights.bin").read_bytes()
    assert np.frombuffer(data, np.float32, 3).tolist() == [0, 1, 2]
    assert data[ALIGNMENT_BYTES:] == bytes([9] * 4 + [7] * 4)


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (1, np.zeros((2, 2), np.uint8)),
        (0, np.zeros((1, 3), np.uint8)),
        (0, np.zeros((1, 2), np.int8)),
    ],
)
def test_rows_that_are_not_part_of_a_region_are_a_bug(
    tmp_path: Path, row: int, rows: NDArray[Any]
) -> None:
    with WeightsFile(tmp_path / "weights.bin") as out:
        out.reserve("array", np.uint8, (2, 2))

        with pytest.raises(ValueError, match="array"):
            out.write("array", row, rows)


def test_what_is_not_on_the_disk_yet_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(weights, "_UNSYNCED_LIMIT_BYTES", 100)
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))

    with WeightsFile(tmp_path / "weights.bin") as out:
        out.reserve("array", np.uint8, (10, 40))
        for row in range(10):
            out.write("array", row, np.ones((1, 40), np.uint8))

    assert synced == [120, 240, 360]
