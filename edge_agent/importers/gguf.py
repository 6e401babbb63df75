"""An open GGUF file: typed metadata by key, tensors by name, raw rows on demand.

What the raw bytes mean is for `ggml_types`; what the names mean, for the importer of a family.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import gguf_header

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edge_agent.importers.arrays import Raw
    from edge_agent.importers.gguf_header import Header, Tensor

T = TypeVar("T")

# Texts of a hostile file may be megabytes long; a problem that quotes them is to stay a sentence.
_MAX_PROBLEM_CHARS = 400


class GgufFile:
    """An open GGUF file; metadata accessors raise ModelError for what is missing or mistyped.

    Raises:
        ModelError: cannot be opened, no GGUF of a known version, cut short, or inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as exc:
            self.refuse(str(exc))
        try:
            header = self._header()
        except (ModelError, OSError) as exc:
            self._file.close()
            self.refuse(str(exc))
        self.metadata = header.metadata
        self.tensors = header.tensors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; rows that were read stay valid."""
        self._file.close()

    def refuse(self, problem: str) -> NoReturn:
        """Raise the ModelError that this file has `problem`."""
        end = "" if len(problem) <= _MAX_PROBLEM_CHARS else "…"
        msg = f"{self.name}: {problem[:_MAX_PROBLEM_CHARS]}{end}"
        raise ModelError(msg)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor `name`, or raise ModelError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            self.refuse(f"tensor {name!r} is missing")
        return tensor

    def rows(self, tensor: Tensor, start: int, stop: int) -> Raw:
        """Return raw rows [start, stop), uint8 [rows, row bytes].

        They are read, not mapped: pages of a mapped file count as the process's own memory.

        Raises:
            ModelError: the file cannot be read, or became shorter since it was opened.
        """
        row_bytes = tensor.num_bytes // tensor.rows
        raw = np.empty((stop - start, row_bytes), np.uint8)
        left, position = raw.reshape(-1).data, tensor.offset + start * row_bytes
        while left:
            try:
                count = os.preadv(self._file.fileno(), [left], position)
            except OSError as exc:
                self.refuse(str(exc))
            if count == 0:
                self.refuse(f"cut short: tensor {tensor.name!r} ends at byte {position}")
            left, position = left[count:], position + count
        return raw

    def text(self, key: str) -> str:
        """Return the string `key`."""
        return self._typed(key, self._value(key), str)

    def flag(self, key: str, default: bool) -> bool:  # noqa: FBT001  # as the other accessors
        """Return the bool `key`, or `default` where it is missing."""
        return self._typed(key, self.metadata.get(key, default), bool)

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the integer `key`, or `default`, if there is one, where it is missing."""
        return self._typed(key, self._value(key, default), int)

    def number(self, key: str, default: float | None = None) -> float:
        """Return the float `key`, or `default`, if there is one, where it is missing."""
        return self._typed(key, self._value(key, default), float)

    def strings(self, key: str) -> list[str]:
        """Return the list of strings `key`."""
        return self._typed(key, self._value(key), list)

    def integers(self, key: str) -> list[int]:
        """Return the list of integers `key`."""
        value = self._value(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            self.refuse(f"metadata {key!r} is no list of integers")
        numbers: list[int] = value.tolist()
        return numbers

    def _header(self) -> Header:
        file_bytes = os.fstat(self._file.fileno()).st_size
        header_bytes = min(file_bytes, gguf_header.MAX_HEADER_BYTES)
        if not header_bytes:
            msg = "the file is empty"
            raise ModelError(msg)
        with mmap.mmap(self._file.fileno(), header_bytes, access=mmap.ACCESS_READ) as data:
            return gguf_header.parse(data, file_bytes)

    def _value(self, key: str, default: gguf_header.Value | None = None) -> gguf_header.Value:
        value = self.metadata.get(key, default)
        if value is None:
            self.refuse(f"metadata {key!r} is missing")
        return value

    def _typed(self, key: str, value: object, kind: type[T]) -> T:
        # Exactly: Python would take a bool for an integer.
        if type(value) is not kind:
            self.refuse(f"metadata {key!r}: {type(value).__name__}, not {kind.__name__}")
        return value
