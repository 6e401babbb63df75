"""Reading ahead: what is asked for lies in the page cache afterwards."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from edge_agent.engine import weight_pages
from edge_agent.engine.weight_pages import read_again_ahead, read_ahead
from edge_agent.modelstore.prepared import HUGE_PAGE_BYTES

SIZE = 4 * HUGE_PAGE_BYTES + 12_345


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of which nothing is in memory, where the file system can do without."""
    path = tmp_path / "weights.bin"
    with path.open("wb") as file:
        file.write(os.urandom(SIZE))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def missing_pages(path: Path, *, start: int) -> int:
    """Return how many pages of `path` from byte `start` on are not in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as pages:
        address = np.frombuffer(pages, np.uint8).ctypes.data
        there = (ctypes.c_ubyte * -(-len(pages) // mmap.PAGESIZE))()
        libc = ctypes.CDLL(None)
        assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(pages)), there) == 0
        return sum(not page & 1 for page in there[start // mmap.PAGESIZE :])


@pytest.mark.parametrize("start", [0, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 4096, SIZE - 1])
def test_all_from_the_start_on_is_read(weights: Path, start: int) -> None:
    read = read_ahead(weights, start=start)

    assert read >= SIZE - start
    assert missing_pages(weights, start=start) == 0


def huge_bytes(path: Path) -> int:
    """Return how much of `path` lies in the page cache in huge pages."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
    ):
        pages.madvise(mmap.MADV_HUGEPAGE)
        for place in range(0, len(pages), mmap.PAGESIZE):
            pages[place]
        told = Path("/proc/self/smaps").read_text().split(str(path.resolve()))[1]
    return int(told.split("FilePmdMapped:")[1].split()[0]) * 1024


def read_in_small_pages(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for place in range(0, SIZE, mmap.PAGESIZE):
            os.pread(file.fileno(), mmap.PAGESIZE, place)


def test_what_lies_there_in_small_pages_is_read_again_in_huge_ones(weights: Path) -> None:
    read_ahead(weights, start=0)
    from_nothing = huge_bytes(weights)  # none on a system without huge pages for files
    read_in_small_pages(weights)

    read_ahead(weights, start=0)

    assert huge_bytes(weights) == from_nothing
    assert missing_pages(weights, start=0) == 0


def test_it_is_read_again_once_where_that_is_in_vain(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_pages, "_PART_BYTES", HUGE_PAGE_BYTES)
    dropped: list[int] = []
    advise = os.posix_fadvise

    def note(file: int, offset: int, length: int, advice: int) -> None:
        dropped.append(offset)
        advise(file, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", note)
    monkeypatch.setattr(weight_pages, "_huge_bytes", lambda: 0)

    read_ahead(weights, start=0)

    assert dropped == [0]
    assert missing_pages(weights, start=0) == 0


def test_behind_the_end_there_is_nothing_to_read(weights: Path) -> None:
    assert read_ahead(weights, start=HUGE_PAGE_BYTES * 5) == 0


def test_only_mappings_from_the_start_on_are_read_again_ahead(weights: Path) -> None:
    assert read_again_ahead(weights, start=0) == 0
    with weights.open("rb") as file:
        places = {0: HUGE_PAGE_BYTES, HUGE_PAGE_BYTES: 4096, 2 * HUGE_PAGE_BYTES: 8192}
        maps = [
            mmap.mmap(file.fileno(), length, flags=mmap.MAP_PRIVATE, offset=offset)
            for offset, length in places.items()
        ]
        advised = read_again_ahead(weights, start=HUGE_PAGE_BYTES)
        told = Path("/proc/self/smaps").read_text().split(str(weights.resolve()))
        for one in maps:
            one.close()

    assert advised == 4096 + 8192
    flags = [part.split("VmFlags:")[1].split("\n")[0].split() for part in told[1:]]
    assert sorted("hg" in one for one in flags) == [False, True, True]
