"""What this machine's memory gives to readers: `python -m tests.bench.runners.bandwidth OPTIONS`.

Options: `threads`. Each searches an array of its own that no cache can hold; numpy lets go of the
interpreter for that. It is the wall that decoding runs into.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.bench.runners.loop import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.runners.task import Figures, Task

# Many times the largest cache of a server's processor.
_BYTES_PER_THREAD = 1 << 30


class Probe:
    """Arrays to read."""

    def __init__(self, threads: int) -> None:
        self.facts: dict[str, Any] = {"bytes_per_thread": _BYTES_PER_THREAD}
        self._arrays = [np.ones(_BYTES_PER_THREAD // 8, np.int64) for _ in range(threads)]

    def run(self, task: Task) -> Figures:
        """Read everything `task.reps` times."""
        with ThreadPoolExecutor(len(self._arrays)) as pool:
            speeds = []
            for _ in range(task.reps):
                began_s = time.perf_counter()
                list(pool.map(lambda array: array.max(), self._arrays))
                elapsed_s = time.perf_counter() - began_s
                speeds.append(len(self._arrays) * _BYTES_PER_THREAD / elapsed_s / 1e9)
        return {"gb_s": statistics.median(speeds)}


@contextmanager
def make(options: dict[str, Any]) -> Iterator[Probe]:
    """Fill the arrays."""
    yield Probe(options["threads"])


if __name__ == "__main__":
    serve(make)
