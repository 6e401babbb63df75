"""An open GGUF file: typed metadata by key, tensors by name, raw rows on demand.

What the raw bytes mean is for `ggml_types`; what the names mean, for the importer of a family.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import gguf_header

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edge_agent.importers.ggml_types import Raw
    from edge_agent.importers.gguf_header import Tensor

T = TypeVar("T")


class GgufFile:
    """A mapped GGUF file; metadata accessors raise ModelError for what is missing or mistyped.

    Raises:
        ModelError: cannot be opened, no GGUF of a known version, cut short, or inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as exc:  # an empty file cannot be mapped
            raise self._error(str(exc)) from exc
        try:
            header = gguf_header.parse(self._map)
        except ModelError as exc:
            self._map.close()
            raise self._error(str(exc)) from exc
        self.metadata = header.metadata
        self.tensors = header.tensors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file; rows that were read stay valid."""
        self._map.close()

    def tensor(self, name: str) -> Tensor:
        """Return the tensor `name`, or raise ModelError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            msg = f"tensor {name!r} is missing"
            raise self._error(msg)
        return tensor

    def rows(self, tensor: Tensor, start: int, stop: int) -> Raw:
        """Return a copy of raw rows [start, stop), uint8 [rows, row bytes]."""
        row_bytes = tensor.num_bytes // tensor.rows
        begin = tensor.offset + start * row_bytes
        data = self._map[begin : begin + (stop - start) * row_bytes]
        return np.frombuffer(data, np.uint8).reshape(stop - start, row_bytes)

    def text(self, key: str) -> str:
        """Return the string `key`."""
        return self._typed(key, self._value(key), str)

    def integer(self, key: str) -> int:
        """Return the integer `key`."""
        return self._typed(key, self._value(key), int)

    def number(self, key: str) -> float:
        """Return the float `key`."""
        return self._typed(key, self._value(key), float)

    def strings(self, key: str) -> list[str]:
        """Return the list of strings `key`."""
        return [self._typed(key, item, str) for item in self._list(key)]

    def integers(self, key: str) -> list[int]:
        """Return the list of integers `key`."""
        return [self._typed(key, item, int) for item in self._list(key)]

    def _value(self, key: str) -> gguf_header.Value:
        value = self.metadata.get(key)
        if value is None:
            msg = f"metadata {key!r} is missing"
            raise self._error(msg)
        return value

    def _list(self, key: str) -> list[gguf_header.Scalar]:
        value = self._value(key)
        if not isinstance(value, list):
            msg = f"metadata {key!r} is no list"
            raise self._error(msg)
        return value

    def _typed(self, key: str, value: object, kind: type[T]) -> T:
        if not isinstance(value, kind):
            msg = f"metadata {key!r}: {type(value).__name__}, not {kind.__name__}"
            raise self._error(msg)
        return value

    def _error(self, problem: str) -> ModelError:
        return ModelError(f"{self._name}: {problem}")
