"""Parses the header of a safetensors file: every size and offset is checked before it is used.

Works on bytes and knows nothing of files or of what names mean. Layout: 8 bytes of length (little
endian), that many bytes of JSON `{name: {dtype, shape, data_offsets}}`, then the tensors without
overlap or holes (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.strict_json import parse_object

LENGTH_BYTES = 8
# The format allows 100 MB. A tensor takes about 150 bytes: this holds 25,000, of models far beyond
# any gateway, and what hostile JSON of this size becomes in memory stays harmless.
MAX_HEADER_BYTES = 4 << 20
MAX_DIMS = 8
# 256 TiB: beyond any file, and far from where sums of sizes would need big numbers.
MAX_BYTES = 1 << 48

Dtype = Literal["BF16", "F16", "F32"]
ITEM_BYTES: dict[Dtype, int] = {"BF16": 2, "F16": 2, "F32": 4}

_METADATA = "__metadata__"
_Size = Annotated[int, Meta(ge=0, le=MAX_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of weights, `offset` bytes into its file."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """What the header says of a tensor."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], Meta(max_length=MAX_DIMS)]
    data_offsets: tuple[_Size, _Size]


def header_bytes(start: bytes, file_bytes: int) -> int:
    """Return how many bytes of JSON follow the first 8 bytes of a file, `start`.

    Raises:
        ModelError: not a safetensors file of `file_bytes` bytes.
    """
    size = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or LENGTH_BYTES + size > file_bytes:
        msg = f"not a safetensors file: a header of {size} bytes in a file of {file_bytes}"
        raise ModelError(msg)
    if size > MAX_HEADER_BYTES:
        msg = f"a header of {size} bytes, the limit is {MAX_HEADER_BYTES}"
        raise ModelError(msg)
    return size


def parse(header: bytes, file_bytes: int) -> dict[str, Tensor]:
    """Return the tensors by name, in the order in which they lie in the file of `file_bytes` bytes.

    Raises:
        ModelError: not JSON of the format, a type of numbers this version does not read, sizes
            that contradict each other, or tensors that overlap, leave holes or leave the file.
    """
    start = LENGTH_BYTES + len(header)
    entries = parse_object(header, "header")
    entries.pop(_METADATA, None)
    ranges = [
        (entry.data_offsets, _tensor(name, entry, start))
        for name, entry in ((name, _entry(name, fields)) for name, fields in entries.items())
    ]
    ranges.sort(key=lambda item: item[0])
    end = 0
    for (begin, stop), tensor in ranges:
        if begin != end:
            msg = f"tensor {tensor.name!r} begins at byte {begin} of the weights, expected {end}"
            raise ModelError(msg)
        end = stop
    if start + end != file_bytes:
        msg = f"the tensors end at byte {start + end}, the file at {file_bytes}"
        raise ModelError(msg)
    return {tensor.name: tensor for _, tensor in ranges}


def _entry(name: str, fields: Any) -> _Entry:  # noqa: ANN401  # any JSON; typed here
    try:
        return msgspec.convert(fields, _Entry)
    except msgspec.ValidationError as exc:
        msg = f"tensor {name!r}: {exc}"
        raise ModelError(msg) from exc


def _tensor(name: str, entry: _Entry, start: int) -> Tensor:
    dtype = next((known for known in ITEM_BYTES if known == entry.dtype), None)
    if dtype is None:
        known = ", ".join(ITEM_BYTES)
        msg = f"tensor {name!r} is of type {entry.dtype!r}; this version reads {known}"
        raise ModelError(msg)
    shape, (begin, stop) = entry.shape, entry.data_offsets
    if stop - begin != prod(shape) * ITEM_BYTES[dtype]:
        msg = f"tensor {name!r}: bytes {begin} to {stop} do not hold {dtype} {list(shape)}"
        raise ModelError(msg)
    return Tensor(name=name, dtype=dtype, shape=shape, offset=start + begin)
