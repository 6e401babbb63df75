"""Writes `weights.bin`: named regions, reserved first, filled in any order, never in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

FILE_NAME = "weights.bin"
# A page: regions can then be mapped, and dropped from memory, one by one.
ALIGNMENT_BYTES = 4096
# Written pages that are not on the disk yet cannot be dropped when memory is short.
_UNSYNCED_LIMIT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where an array lies in the file, and how it is read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class WeightsFile:
    """The file while it is written. `regions` by name."""

    def __init__(self, path: Path) -> None:
        self.regions: dict[str, Region] = {}
        self._end = self._unsynced = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def reserve(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        """Give array `name` its place; the file grows when it is written."""
        offset = -(-self._end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        region = Region(dtype=np.dtype(dtype), shape=shape, offset=offset)
        self.regions[name] = region
        self._end = offset + region.num_bytes

    def write(self, name: str, row: int, rows: NDArray[Any]) -> None:
        """Fill array `name` from `row` on with `rows` of its shape and dtype."""
        region = self.regions[name]
        fits = row + len(rows) <= region.shape[0] and rows.shape[1:] == region.shape[1:]
        if not fits or rows.dtype != region.dtype:
            msg = f"{name}: {rows.dtype}{rows.shape} at row {row} is not part of {region}"
            raise ValueError(msg)
        self._put(rows, region.offset + row * (region.num_bytes // region.shape[0]))

    def write_turned(self, name: str, column: int, rows: NDArray[Any]) -> None:
        """Fill array `name` from `column` on with `rows`, each of which becomes one column."""
        region = self.regions[name]
        height, width = region.shape
        fits = column + len(rows) <= width and rows.shape[1:] == (height,)
        if not fits or rows.dtype != region.dtype:
            msg = f"{name}: {rows.dtype}{rows.shape} at column {column} is not part of {region}"
            raise ValueError(msg)
        for number, part in enumerate(rows.T):
            place = number * width + column
            self._put(part, region.offset + place * region.dtype.itemsize)

    def _put(self, array: NDArray[Any], position: int) -> None:
        data = np.ascontiguousarray(array).data.cast("B")
        while data:  # a write may be short near the end of a disk
            written = os.pwrite(self._fd, data, position)
            data, position = data[written:], position + written
            self._unsynced += written
        if self._unsynced >= _UNSYNCED_LIMIT_BYTES:
            os.fdatasync(self._fd)
            self._unsynced = 0

    def flush(self) -> None:
        """Bring everything to the disk."""
        os.ftruncate(self._fd, self._end)
        os.fsync(self._fd)
