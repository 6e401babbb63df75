"""Checksums of a long stretch of a file, chunk by chunk, on all cores.

CRC-32, against decay and not against enemies: it runs at 2.4 GB/s where SHA-256 runs at 1.5 GB/s
with instructions of its own and at 0.5 GB/s without them, as on a Raspberry Pi 4.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A few of them fit in any memory, and a call costs nothing beside one.
CHUNK_BYTES = 8 << 20


def checksums(fd: int, begin: int, end: int, report: Callable[[int], None]) -> tuple[int, ...]:
    """Return the CRC-32 of each CHUNK_BYTES of bytes [begin, end) of the open file `fd`.

    The last chunk may be shorter, also because the file is. `report` gets the bytes done so far.

    Raises:
        OSError: the file cannot be read.
    """

    def checksum(start: int) -> int:
        return zlib.crc32(os.pread(fd, min(CHUNK_BYTES, end - start), start))

    found = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number in pool.map(checksum, range(begin, end, CHUNK_BYTES)):
            found.append(number)
            report(min(len(found) * CHUNK_BYTES, end - begin))
    return tuple(found)
