"""How fast this machine's memory is read: the wall that decoding runs into."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Many times the largest cache, and little beside a model; all threads share it.
_PROBE_BYTES = 512 << 20
_FLOAT_BYTES = 4


def read_gb_s(*, threads: int, reps: int) -> float:
    """Return gigabytes per second that `threads` read together, the best of `reps` passes.

    Whatever else runs only takes from it. numpy lets go of the interpreter while it reads, and asks
    for huge pages: no program reads faster through small ones.
    """
    floats = np.ones(_PROBE_BYTES // _FLOAT_BYTES, np.float32)
    parts = np.array_split(floats, threads)
    with ThreadPoolExecutor(threads) as pool:
        return max(_pass_gb_s(pool, parts) for _ in range(reps))


def _pass_gb_s(
    pool: ThreadPoolExecutor, parts: list[np.ndarray[tuple[int], np.dtype[np.float32]]]
) -> float:
    began_s = time.perf_counter()
    for _ in pool.map(np.max, parts):
        pass
    return sum(part.nbytes for part in parts) / (time.perf_counter() - began_s) / 1e9
