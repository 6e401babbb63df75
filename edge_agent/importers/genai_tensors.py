"""Where the tensors of an ONNX model lie, and their bytes on demand.

Large ones lie in files beside the model (`external_data`), at places that a stranger wrote: names
must be plain names of regular files of the directory, and everything must lie inside its file.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from edge_agent.errors import ModelError
from edge_agent.importers.directory import read_at

if TYPE_CHECKING:
    from contextlib import ExitStack

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.directory import Directory

# Far above any real tensor.
MAX_NUMBERS = 1 << 40
# Far above any real package, which has one; each is an open file.
MAX_FILES = 64

_ITEM_BYTES = {"FLOAT": 4, "FLOAT16": 2, "BFLOAT16": 2, "UINT8": 1, "INT32": 4, "INT64": 8}
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
# Constants of a few numbers may stand in the field of their type instead of `raw_data`.
_TYPED = {
    "FLOAT": ("float_data", "<f4"),
    "INT32": ("int32_data", "<i4"),
    "INT64": ("int64_data", "<i8"),
}
_EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)  # fits 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor whose bytes are known to be there, from `offset` of the open file `fd` on.

    `dtype` is onnx's name: FLOAT, FLOAT16, BFLOAT16, UINT8, INT32 or INT64.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    fd: int | None = None
    """None: the bytes are `inline`."""
    offset: int = 0
    inline: bytes = b""

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floats of any width."""
        return self.dtype in _FLOATS

    def read(self, first: int, count: int) -> memoryview:
        """Return the bytes of `count` numbers from number `first` on.

        Raises:
            ModelError: the file was cut short meanwhile, or the disk fails.
        """
        item_bytes = _ITEM_BYTES[self.dtype]
        start, num_bytes = first * item_bytes, count * item_bytes
        if self.fd is None:
            return memoryview(self.inline)[start : start + num_bytes]
        try:
            return read_at(self.fd, self.offset + start, num_bytes)
        except ModelError as exc:
            raise refuse(self.name, str(exc)) from exc

    def floats(self, first: int, count: int) -> F32:
        """Return `count` numbers from number `first` on, float32 [count]; exact for all floats.

        Raises:
            ModelError: as `read`, or they hold infinity or NaN.
        """
        numbers = _as_float32(self.read(first, count), self.dtype)
        if not np.isfinite(numbers).all():
            at = first + int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise refuse(self.name, f"number {at} is infinity or NaN")
        return numbers


class TensorFiles:
    """Opens the files that tensors lie in, each once."""

    def __init__(self, directory: Directory, stack: ExitStack) -> None:
        """Read files of `directory`; they are open until `stack` closes."""
        self._directory = directory
        self._stack = stack
        self._files: dict[str, int] = {}

    def locate(self, proto: TensorProto) -> Tensor:
        """Return where `proto` lies.

        Raises:
            ModelError: of a type or a size that is not read, or its place is not inside a regular
                file of the directory.
        """
        dtype, shape = _dtype(proto), tuple(proto.dims)
        if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_NUMBERS:
            raise refuse(proto.name, f"impossible dimensions {list(shape)}")
        if proto.data_location == TensorProto.EXTERNAL:
            fd, offset, num_bytes = self._external(proto, math.prod(shape) * _ITEM_BYTES[dtype])
            tensor = Tensor(name=proto.name, shape=shape, dtype=dtype, fd=fd, offset=offset)
        else:
            inline = _inline(proto, dtype)
            tensor = Tensor(name=proto.name, shape=shape, dtype=dtype, inline=inline)
            num_bytes = len(inline)
        if num_bytes != tensor.numbers * _ITEM_BYTES[dtype]:
            raise refuse(proto.name, f"{list(shape)} of {dtype} are not {num_bytes} bytes")
        return tensor

    def _external(self, proto: TensorProto, expected_bytes: int) -> tuple[int, int, int]:
        """Return the open file, offset and length of what lies outside."""
        pairs = [(entry.key, entry.value) for entry in proto.external_data]
        place = dict(pairs)
        if "location" not in place or len(place) < len(pairs) or set(place) - _EXTERNAL_KEYS:
            raise refuse(proto.name, f"external data is described by {sorted(dict(pairs))}")
        offset = _bytes(proto.name, "offset", place.get("offset", "0"))
        length = _bytes(proto.name, "length", place.get("length", str(expected_bytes)))
        fd = self._open(proto.name, place["location"])
        if offset + length > (file_bytes := os.fstat(fd).st_size):
            where = f"bytes {offset} to {offset + length} of {place['location']}"
            raise refuse(proto.name, f"{where}, which has {file_bytes}")
        return fd, offset, length

    def _open(self, tensor: str, name: str) -> int:
        if name not in self._files:
            if len(self._files) == MAX_FILES:
                raise refuse(tensor, f"the model names more than {MAX_FILES} files")
            self._files[name] = self._stack.enter_context(self._directory.open(name))
        return self._files[name]


def refuse(tensor: str, problem: str) -> ModelError:
    """Return the error that says what is wrong with the tensor of that name."""
    return ModelError(f"tensor {tensor!r}: {problem}")


def _dtype(proto: TensorProto) -> str:
    names = {int(number): str(name) for name, number in TensorProto.DataType.items()}
    dtype = names.get(proto.data_type, str(proto.data_type))
    if dtype not in _ITEM_BYTES:
        raise refuse(proto.name, f"type {dtype} is not read; these are: {', '.join(_ITEM_BYTES)}")
    return dtype


def _inline(proto: TensorProto, dtype: str) -> bytes:
    if proto.raw_data or dtype not in _TYPED:
        return proto.raw_data
    field, numpy_dtype = _TYPED[dtype]
    return np.asarray(getattr(proto, field), numpy_dtype).tobytes()


def _bytes(tensor: str, key: str, text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise refuse(tensor, f"{key} {text[:24]!r} is no number of bytes")
    return int(text)


def _as_float32(raw: memoryview, dtype: str) -> F32:
    match dtype:
        case "FLOAT":
            return np.frombuffer(raw, "<f4").astype(np.float32, copy=False)
        case "FLOAT16":
            return np.frombuffer(raw, "<f2").astype(np.float32)
        case _:  # bfloat16, the upper half of a float32
            wide = np.frombuffer(raw, "<u2").astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
