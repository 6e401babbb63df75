"""Reading a file into huge pages of the cache, where there are any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_agent.modelstore.huge_pages import HUGE_PAGE_BYTES, bring_in

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3 * HUGE_PAGE_BYTES + 100


@pytest.fixture
def fd(tmp_path: Path) -> int:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.posix_fadvise(opened, 0, SIZE, os.POSIX_FADV_DONTNEED)
    return opened


def cached(fd: int) -> int:
    """Return how many bytes of the file a read gets without waiting for the disk."""
    found = 0
    for place in range(0, SIZE, 4096):
        try:
            found += os.preadv(fd, [bytearray(min(4096, SIZE - place))], place, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
    return found


def test_what_is_brought_in_is_in_the_cache(fd: int) -> None:
    bring_in(fd, HUGE_PAGE_BYTES + 5000, 2 * HUGE_PAGE_BYTES)

    assert cached(fd) >= HUGE_PAGE_BYTES


@pytest.mark.parametrize(("begin", "end"), [(0, SIZE + 4096), (SIZE * 2, SIZE * 3)])
def test_behind_the_end_of_a_file_is_nothing_to_bring_in(fd: int, begin: int, end: int) -> None:
    bring_in(fd, begin, end)


def test_a_file_that_may_not_be_read_is_left_alone(tmp_path: Path) -> None:
    opened = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    bring_in(opened, 0, 4096)
    os.close(opened)
