"""How the C library hands out memory to the daemon, and gives it back."""

from __future__ import annotations

import ctypes

# glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
# Bodies of requests and answers of this size and more; everything else in the daemon is smaller.
APART_BYTES = 128 << 10


def keep_large_blocks_apart() -> None:
    """Give every block of 128 KiB and more pages of its own, which go back when it is freed.

    By itself glibc does so only until the first such block was freed: from then on the next ones
    come from the heap, where whatever small object lies behind them keeps their pages. Bodies of
    a megabyte then leave the daemon 3 to 6 MB larger for good, and some tenths with this. It costs
    page faults, a millisecond per megabyte at the most. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, APART_BYTES)
