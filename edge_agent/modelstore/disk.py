"""Free disk: how much a preparation wants to see before it begins, and what a full disk says."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

# Logs, file system overhead, and what else writes to the disk meanwhile.
SPARE_BYTES = 32 << 20
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_MB = 1_000_000
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own


def require(what: str, needed_bytes: int, directory: Path) -> None:
    """Check that `directory` has room for `needed_bytes` and the spare ones.

    Raises:
        ModelError: it has not; the sentence has both numbers.
    """
    needed, free = needed_bytes + SPARE_BYTES, free_bytes(directory)
    if free < needed:
        msg = (
            f"{what} needs {needed / _MB:.0f} MB of free disk, {directory} has {free / _MB:.0f} MB"
        )
        raise ModelError(msg)


def free_bytes(directory: Path) -> int:
    """Return what this process may still write where `directory` is."""
    return shutil.disk_usage(directory).free


def written_bytes(directory: Path) -> int:
    """Return the disk that the files in `directory` take so far, without holes yet to be filled."""
    try:
        return sum(path.stat().st_blocks * _BLOCK_BYTES for path in directory.iterdir())
    except FileNotFoundError:
        return 0
