"""Has the system keep the weights in huge pages of its cache, where it can.

A decoding step reads all weights once, and with 4 KiB pages it waits for 500,000 addresses: through
huge pages the products of one row take a fifth less time (measured: x86-64, two cores, block 128).
Linux maps the pages of a file so if they lie in its cache as huge ones, which it makes of large
writes and where it is advised to before it reads; from 6.16 on for ext4, earlier for XFS and Btrfs.
Elsewhere the advice is without effect, and reading ahead costs nothing: the weights are compared
with freshly packed ones at every load.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from edge_agent.modelstore.prepared import HUGE_PAGE_BYTES

# What is looked at together: less than a second of reading where the second time is in vain too.
_PART_BYTES = 32 * HUGE_PAGE_BYTES


def read_ahead(path: Path, *, start: int) -> int:
    """Read `path` from byte `start` to its end into the page cache; return how many bytes.

    What lies there in small pages, of a copy or a backup that read it, is dropped and read once
    more; what other processes have mapped stays as it is.

    Raises:
        OSError: the file cannot be read.
    """
    first = start // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        is_worth_it = True
        for place in range(first, end, _PART_BYTES):
            length = min(_PART_BYTES, end - place)
            huge_bytes = _read_part(file.fileno(), place, length)
            if is_worth_it and huge_bytes < length // 2:
                os.posix_fadvise(file.fileno(), place, length, os.POSIX_FADV_DONTNEED)
                # Where that changes nothing it will not for the rest, and a slow card takes half
                # a minute for two gigabytes.
                is_worth_it = _read_part(file.fileno(), place, length) > huge_bytes
    return max(0, end - first)


def _read_part(file: int, place: int, length: int) -> int:
    """Read that part into the page cache; return how many bytes of it lie in huge pages."""
    before = _huge_bytes()
    with mmap.mmap(file, length, access=mmap.ACCESS_READ, offset=place) as pages:
        pages.madvise(mmap.MADV_HUGEPAGE)
        # A look at one byte reads the huge page around it.
        for one in range(0, length, HUGE_PAGE_BYTES):
            pages[one]
        return _huge_bytes() - before


def _huge_bytes() -> int:
    """Return how much of files this process has mapped in huge pages (`proc_pid_smaps(5)`)."""
    try:
        told = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # a kernel before 4.14
        return 0
    return sum(
        int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("FilePmd")
    )


def read_again_ahead(path: Path, *, start: int) -> int:
    """Have what the system drops of `path` and reads again come back in huge pages.

    For the mappings that this process has of it from byte `start` on; returns their bytes. Not for
    those before: of an embedding single rows are read.

    Raises:
        OSError: there is no such file.
    """
    inode, libc, num_bytes = path.stat().st_ino, ctypes.CDLL(None), 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, offset, _, its_inode = line.split()[:5]
        if int(its_inode) != inode or int(offset, 16) < start:
            continue
        first, last = (int(address, 16) for address in addresses.split("-"))
        # Advice: a kernel without huge pages for files refuses it, and nothing is lost.
        libc.madvise(
            ctypes.c_void_p(first), ctypes.c_size_t(last - first), ctypes.c_int(mmap.MADV_HUGEPAGE)
        )
        num_bytes += last - first
    return num_bytes
