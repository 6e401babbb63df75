"""Parses the header of a GGUF file: every count, length and offset is checked before it is used.

Works on bytes; knows nothing of files or of what metadata keys and tensor names mean.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ModelError
from edge_agent.importers.ggml_types import KINDS, Kind

if TYPE_CHECKING:
    import mmap

# Bounds far above any real model, low enough that hostile counts cost nothing.
MAX_TENSORS = 1 << 16
MAX_KEYS = 1 << 12
MAX_ARRAY = 1 << 20
MAX_DIMS = 4
MAX_NAME_BYTES = 1 << 10
MAX_WEIGHTS = 1 << 40
# Metadata and tensor list together; a vocabulary of 200,000 with its merges takes about 11 MB.
MAX_HEADER_BYTES = 1 << 26

_MAGIC = 0x46554747  # "GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 16
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_BOOL = np.dtype(np.bool)
_NUMBERS: dict[int, np.dtype[Any]] = {
    number: np.dtype(code)
    for number, code in (
        *((0, "<u1"), (1, "<i1"), (2, "<u2"), (3, "<i2"), (4, "<u4"), (5, "<i4")),
        *((6, "<f4"), (7, "?"), (10, "<u8"), (11, "<i8"), (12, "<f8")),
    )
}

Scalar = int | float | bool | str
Value = Scalar | list[str] | NDArray[Any]
"""Arrays of numbers stay arrays: as objects they would take ten times their bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor lies: `rows` x `columns` weights, row after row, `offset` bytes into the file.

    A vector is one row.
    """

    name: str
    kind: Kind
    rows: int
    columns: int
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a GGUF file says before its weights."""

    metadata: dict[str, Value]
    tensors: dict[str, Tensor]


def parse(data: mmap.mmap | bytes, file_bytes: int) -> Header:
    """Read the header of a file of `file_bytes` bytes, of which `data` is the beginning.

    Raises:
        ModelError: no GGUF of a known version, cut short, or inconsistent.
    """
    cursor = _Cursor(data)
    if cursor.integer(_U32) != _MAGIC:
        msg = "not a GGUF file"
        raise ModelError(msg)
    version = cursor.integer(_U32)
    if version not in _VERSIONS:
        msg = f"GGUF version {version}; this version reads {_VERSIONS}"
        raise ModelError(msg)
    num_tensors = cursor.count("tensors", MAX_TENSORS)
    num_keys = cursor.count("metadata keys", MAX_KEYS)
    metadata = _read_metadata(cursor, num_keys)
    listed = [_read_tensor(cursor) for _ in range(num_tensors)]
    alignment = _alignment(metadata)
    start = -(-cursor.position // alignment) * alignment
    tensors = [_placed(tensor, start, alignment, file_bytes) for tensor in listed]
    _check_distinct(tensors)
    return Header(metadata=metadata, tensors={tensor.name: tensor for tensor in tensors})


class _Cursor:
    """Reads forward; a read past the end, or past the header bound, is a ModelError."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data = data
        self._end = min(len(data), MAX_HEADER_BYTES)
        self.position = 0

    def integer(self, form: struct.Struct) -> int:
        self.need(form.size)
        value: int = form.unpack_from(self._data, self.position)[0]
        self.position += form.size
        return value

    def numbers(self, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
        """Read `size` numbers; a bool is any byte that is not zero."""
        num_bytes = size * dtype.itemsize
        self.need(num_bytes)
        raw = self._data[self.position : self.position + num_bytes]
        self.position += num_bytes
        return np.frombuffer(raw, np.uint8) != 0 if dtype == _BOOL else np.frombuffer(raw, dtype)

    def count(self, what: str, limit: int, item_bytes: int = 1) -> int:
        """Read a count of items of at least `item_bytes` each; bounded by `limit` and the file."""
        value = self.integer(_U64)
        if value > limit:
            msg = f"{value} {what}, the limit is {limit}"
            raise ModelError(msg)
        self.need(value * item_bytes)
        return value

    def name(self) -> str:
        return self.text("bytes of name", MAX_NAME_BYTES)

    def text(self, what: str = "bytes of text", limit: int = MAX_HEADER_BYTES) -> str:
        size = self.count(what, limit)
        raw = self._data[self.position : self.position + size]
        self.position += size
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            msg = f"text is not UTF-8: {exc}"
            raise ModelError(msg) from exc

    def need(self, num_bytes: int) -> None:
        if self.position + num_bytes > self._end:
            msg = f"cut short: byte {self.position} and {num_bytes} more of {self._end}"
            raise ModelError(msg)


def _read_metadata(cursor: _Cursor, num_keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(num_keys):
        key = cursor.name()
        if key in metadata:
            msg = f"metadata key {key!r} comes twice"
            raise ModelError(msg)
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: _Cursor, key: str) -> Value:
    kind = cursor.integer(_U32)
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _read_array(cursor, key)
    scalar: Scalar = cursor.numbers(_number(key, kind), 1)[0].item()
    return scalar


def _read_array(cursor: _Cursor, key: str) -> Value:
    kind = cursor.integer(_U32)
    if kind == _STRING:
        size = cursor.count(f"items in {key!r}", MAX_ARRAY, _U64.size)
        return [cursor.text() for _ in range(size)]
    dtype = _number(key, kind)
    return cursor.numbers(dtype, cursor.count(f"items in {key!r}", MAX_ARRAY, dtype.itemsize))


def _number(key: str, kind: int) -> np.dtype[Any]:
    dtype = _NUMBERS.get(kind)
    if dtype is None:
        msg = f"metadata {key!r} has type {kind}, which is unknown or nested"
        raise ModelError(msg)
    return dtype


def _read_tensor(cursor: _Cursor) -> Tensor:
    """Read one entry of the tensor list; its offset still counts from the start of the weights."""
    name = cursor.name()
    num_dims = cursor.integer(_U32)
    if not 1 <= num_dims <= MAX_DIMS:
        msg = f"tensor {name!r} has {num_dims} dimensions"
        raise ModelError(msg)
    columns, *outer = (cursor.integer(_U64) for _ in range(num_dims))
    rows = prod(outer)
    if not 1 <= rows * columns <= MAX_WEIGHTS:
        msg = f"tensor {name!r} has {rows} x {columns} weights"
        raise ModelError(msg)
    number = cursor.integer(_U32)
    kind = KINDS.get(number)
    if kind is None:
        msg = f"tensor {name!r} has type {number}, which is unknown"
        raise ModelError(msg)
    return Tensor(
        name=name,
        kind=kind,
        rows=rows,
        columns=columns,
        offset=cursor.integer(_U64),
        num_bytes=rows * kind.row_bytes(columns),
    )


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 1 <= value <= _MAX_ALIGNMENT or value & (value - 1):
        msg = f"alignment {value!r} is no power of two up to {_MAX_ALIGNMENT}"
        raise ModelError(msg)
    return value


def _placed(tensor: Tensor, start: int, alignment: int, file_bytes: int) -> Tensor:
    if tensor.offset % alignment:
        msg = f"tensor {tensor.name!r} lies at {tensor.offset}, not aligned to {alignment}"
        raise ModelError(msg)
    offset = start + tensor.offset
    if offset + tensor.num_bytes > file_bytes:
        msg = (
            f"cut short: tensor {tensor.name!r} ends at byte {offset + tensor.num_bytes}, "
            f"the file at {file_bytes}"
        )
        raise ModelError(msg)
    return Tensor(
        name=tensor.name,
        kind=tensor.kind,
        rows=tensor.rows,
        columns=tensor.columns,
        offset=offset,
        num_bytes=tensor.num_bytes,
    )


def _check_distinct(tensors: list[Tensor]) -> None:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        msg = "a tensor name comes twice"
        raise ModelError(msg)
    for one, other in pairwise(sorted(tensors, key=lambda tensor: tensor.offset)):
        if one.offset + one.num_bytes > other.offset:
            msg = f"tensors {one.name!r} and {other.name!r} overlap"
            raise ModelError(msg)
