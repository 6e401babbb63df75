"""Checksums of a part of a file."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from edge_agent.modelstore import checksums as module
from edge_agent.modelstore.checksums import checksums

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(250)) * 4


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 300)


def sums(tmp_path: Path, begin: int, end: int) -> tuple[tuple[int, ...], list[int]]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    reported: list[int] = []
    with path.open("rb") as file:
        return checksums(file.fileno(), begin, end, reported.append), reported


def test_each_chunk_has_its_own_and_progress_is_told_in_order(tmp_path: Path) -> None:
    found, reported = sums(tmp_path, 100, 900)

    assert found == tuple(
        zlib.crc32(CONTENT[start:stop]) for start, stop in [(100, 400), (400, 700), (700, 900)]
    )
    assert reported == [300, 600, 800]


def test_nothing_has_none(tmp_path: Path) -> None:
    assert sums(tmp_path, 100, 100) == ((), [])


def test_a_file_that_ends_too_early_has_others(tmp_path: Path) -> None:
    found, _ = sums(tmp_path, 800, 1400)

    assert found == (zlib.crc32(CONTENT[800:]), zlib.crc32(b""))
