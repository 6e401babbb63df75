"""A program beside the daemon, within the same limit, that takes memory and gives it back.

Run as a script it is that program: a line "BYTES SECONDS" makes it hold so much, reached evenly
within so long, and it says when it does.
"""

from __future__ import annotations

import contextlib
import mmap
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.real.limited import MemoryGroup

_MOST_BYTES = 8 << 30  # of addresses; memory is taken where it is written to
_STEP_BYTES = 2 << 20


class Neighbour:
    """Lives from `with` to its end; when the kernel kills it, another one moves in."""

    def __init__(self, group: MemoryGroup) -> None:
        self._group = group
        self._process = self._moved_in()
        self._is_over = False
        self.deaths = 0

    def hold(self, num_bytes: int, *, within_s: float) -> None:
        """Have `num_bytes`, or die of it; return when that is so."""
        process = self._process
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{num_bytes} {within_s}\n")
            process.stdin.flush()
        if process.stdout.readline():
            return
        if self._is_over:  # whoever told it to was not waited for
            return
        self._left(process)
        self.deaths += 1
        self._process = self._moved_in()

    def _moved_in(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._group.joined([sys.executable, "-I", "-S", __file__]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _left(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._left(self._process)


def main() -> None:
    """Hold what is told to, until nothing more is."""
    room = mmap.mmap(-1, _MOST_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held = 0
    for line in sys.stdin:
        wanted, within_s = int(line.split()[0]) // _STEP_BYTES * _STEP_BYTES, float(line.split()[1])
        if wanted < held:
            room.madvise(mmap.MADV_DONTNEED, wanted, held - wanted)
            held = wanted
        pause_s = within_s * _STEP_BYTES / max(_STEP_BYTES, wanted - held)
        while held < wanted:
            for offset in range(held, held + _STEP_BYTES, mmap.PAGESIZE):
                room[offset] = 1
            held += _STEP_BYTES
            time.sleep(pause_s)
        print(held, flush=True)  # noqa: T201  # its answer


if __name__ == "__main__":
    Path("/proc/self/comm").write_text("neighbour")  # what the kernel's log shall call it
    main()
