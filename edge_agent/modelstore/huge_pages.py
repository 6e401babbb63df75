"""Reads a file so that it lies in huge pages of the system's cache, where the system has them.

Linux makes them of what is read through a mapping that asks for them. What a plain read brings in
lies in small pages, and stays so for all who map the file later: whoever reads weights first, were
it to check them, decides how fast they are multiplied until the cache is dropped.
"""

from __future__ import annotations

import contextlib
import mmap

HUGE_PAGE_BYTES = 2 << 20
"""Of x86-64, and of ARM64 with pages of 4 KiB. Read through them, weights take a fifth less time: a
product waits for addresses where each 4 KiB have one of their own."""

# madvise(2), Linux 5.14 and later: reads now, and errors are told instead of signalled.
_MADV_POPULATE_READ = 22


def bring_in(fd: int, begin: int, end: int) -> None:
    """Read bytes [begin, end) of the open file `fd` into the cache; what is there stays as it is.

    Advice only: what cannot be read so, by an older kernel or behind a file's end, is not.
    """
    first = begin // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    with (
        contextlib.suppress(OSError, ValueError),
        mmap.mmap(fd, end - first, access=mmap.ACCESS_READ, offset=first) as pages,
    ):
        pages.madvise(mmap.MADV_HUGEPAGE)
        pages.madvise(_MADV_POPULATE_READ)
