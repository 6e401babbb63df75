"""An open safetensors file: rows of its tensors as floats, on demand."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import safetensors_header
from edge_agent.importers.directory import naming, read_at
from edge_agent.importers.safetensors_header import ITEM_BYTES, LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.directory import Directory
    from edge_agent.importers.safetensors_header import Dtype, Tensor


class SafetensorsFile:
    """A file whose header was found consistent. `tensors` by name."""

    def __init__(self, fd: int, name: str) -> None:
        """Read the header of the open file `fd`, which must stay open; `name` is for errors.

        Raises:
            ModelError: not a safetensors file, or inconsistent.
        """
        self._fd = fd
        self._name = name
        file_bytes = os.fstat(fd).st_size
        with naming(name):
            start = read_at(fd, 0, min(LENGTH_BYTES, file_bytes)).tobytes()
            size = safetensors_header.header_bytes(start, file_bytes)
            header = read_at(fd, LENGTH_BYTES, size).tobytes()
            self.tensors: Mapping[str, Tensor] = safetensors_header.parse(header, file_bytes)

    @classmethod
    @contextmanager
    def opened(cls, directory: Directory, name: str) -> Iterator[SafetensorsFile]:
        """Yield the file `name` of `directory`, open.

        Raises:
            ModelError: it cannot be opened, is not a safetensors file, or is inconsistent.
        """
        with directory.open(name) as fd:
            yield cls(fd, name)

    def rows(self, tensor: Tensor, start: int, stop: int) -> F32:
        """Return rows [start, stop) of a tensor of this file, float32 [stop - start, columns].

        Rows run along the first dimension; a vector is one row.

        Raises:
            ModelError: they hold infinity or NaN, or cannot be read.
        """
        columns = tensor.shape[-1]
        row_bytes = columns * ITEM_BYTES[tensor.dtype]
        offset, num_bytes = tensor.offset + start * row_bytes, (stop - start) * row_bytes
        with naming(self._name):
            floats = _as_floats(read_at(self._fd, offset, num_bytes), tensor.dtype)
            floats = floats.reshape(stop - start, columns)
            _check_finite(tensor, floats, start)
        return floats


def _check_finite(tensor: Tensor, floats: F32, start: int) -> None:
    finite = np.isfinite(floats).all(axis=1)
    if not finite.all():
        msg = f"tensor {tensor.name!r} holds infinity or NaN in row {start + int(finite.argmin())}"
        raise ModelError(msg)


def _as_floats(raw: memoryview, dtype: Dtype) -> F32:
    """Return the numbers of little-endian `raw`; every value of the three types is exact."""
    match dtype:
        case "F32":
            return np.frombuffer(raw, "<f4").astype(np.float32, copy=False)
        case "F16":
            return np.frombuffer(raw, "<f2").astype(np.float32)
        case "BF16":  # the upper half of a float32
            wide = np.frombuffer(raw, "<u2").astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
