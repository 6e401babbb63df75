"""How fast this machine's memory is read: the wall that decoding runs into."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# Many times the largest cache, and little beside a model; all threads share it.
_PROBE_BYTES = 512 << 20
# Some 20 ms each at 25 GB/s.
_PASSES = 2


class Share(NamedTuple):
    """How much of the wall a reader uses."""

    share: float
    """Of what plain readers got at the same moments, the median."""
    read_gb_s: float
    """What it read, the median."""
    memory_gb_s: float
    """What plain readers read, the median."""


class Probe:
    """Threads that read memory as fast as numpy lets them.

    numpy lets go of the interpreter meanwhile, and asks for huge pages: no program reads faster
    through small ones. Of its plain readers "or" of whole parts is the fastest: measured with two
    threads, it reads 1.09 of what `max` of float32 does, 1.04 of a sum of float64 and 1.07 of
    itself in pieces of 4 MiB.
    """

    def __init__(self, threads: int) -> None:
        self._parts = np.array_split(np.ones(_PROBE_BYTES // 8, np.int64), threads)
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def passes_gb_s(self) -> list[float]:
        """Return the gigabytes per second of some passes right now."""
        return [self._pass_gb_s() for _ in range(_PASSES)]

    def _pass_gb_s(self) -> float:
        began_s = time.perf_counter()
        for _ in self._pool.map(_read, self._parts):
            pass
        return _PROBE_BYTES / (time.perf_counter() - began_s) / 1e9


def paired_share(burst: Callable[[], float], probe: Callable[[], list[float]], count: int) -> Share:
    """Return the share of the memory bandwidth that bursts of work use.

    `burst` works for some tenths of a second and returns the GB/s it read, `probe` returns those
    of some passes. They take turns, `count` bursts long: a virtual machine's bandwidth changes by
    half from one minute to the next, as its neighbours please.
    """
    rates, passes = [], [probe()]
    for _ in range(count):
        rates.append(burst())
        passes.append(probe())
    return share_of(rates, passes)


def share_of(rates: Sequence[float], passes: Sequence[Sequence[float]]) -> Share:
    """Return what `rates` of bursts are of the passes before and after each, all in GB/s.

    Passes were made before the first burst and after every one.
    """
    walls = [statistics.median([*before, *after]) for before, after in pairwise(passes)]
    return Share(
        share=statistics.median(rate / wall for rate, wall in zip(rates, walls, strict=True)),
        read_gb_s=statistics.median(rates),
        memory_gb_s=statistics.median(walls),
    )


def _read(part: NDArray[np.int64]) -> None:
    np.bitwise_or.reduce(part)
