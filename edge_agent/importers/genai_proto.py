"""Parses `model.onnx` after a look at its bytes, so that a hostile file cannot fill the memory.

A protobuf of a few megabytes can unfold to gigabytes, because an empty message of two bytes becomes
an object of a hundred. So the fields are counted on the wire first, where nothing is allocated; the
wire format is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from onnx import ModelProto

from edge_agent.errors import ModelError

# Rotary tables of 131,072 positions stand inside the file of Phi-4-mini: 52 MB.
MAX_MODEL_BYTES = 256 << 20
# Phi-4-mini has about 20,000; a million cost some 100 MB.
MAX_FIELDS = 1 << 20
# A constant of a branch of a node of a graph of a model is at depth 6.
MAX_DEPTH = 24
# A number takes one byte or more here, eight in memory; weights are not stored as such fields.
MAX_PACKED_BYTES = 1 << 20
# They stand in messages and logs; builders write about 80.
MAX_NAME_BYTES = 1 << 10

_MAX_VARINT_BYTES = 10
_NAMES = {"name", "op_type", "domain", "input", "output", "key"}
# Of google.protobuf.FieldDescriptor; all other types with a length are numbers.
_STRING, _MESSAGE, _BYTES = 9, 11, 12


def parse_model(data: bytes, name: str) -> ModelProto:
    """Return the model that `data`, the content of the file `name`, holds.

    Raises:
        ModelError: too many fields, nested too deeply, or no ONNX model.
    """
    try:
        _check_wire(memoryview(data))
        model = ModelProto()
        model.ParseFromString(data)
    except (ValueError, DecodeError) as exc:
        msg = f"{name}: not an ONNX model: {exc}"
        raise ModelError(msg) from exc
    return model


def _check_wire(data: memoryview) -> None:
    """Walk all fields of all messages and raise ValueError where one is malformed or too many."""
    num_fields = 0
    todo: list[tuple[int, int, int, Any]] = [(0, len(data), 1, ModelProto.DESCRIPTOR)]
    while todo:
        position, end, depth, message = todo.pop()
        while position < end:
            num_fields += 1
            if num_fields > MAX_FIELDS or depth > MAX_DEPTH:
                msg = f"more than {MAX_FIELDS} fields, or nested deeper than {MAX_DEPTH}"
                raise ValueError(msg)
            number, start, position = _field(data, position, end)
            field = message.fields_by_number.get(number)
            if start is None or field is None:
                continue
            if field.type == _MESSAGE:
                todo.append((start, position, depth + 1, field.message_type))
            else:
                _check_content(field.name, field.type, data[start:position])


def _check_content(name: str, kind: int, content: memoryview) -> None:
    """Raise ValueError where a string or packed numbers are not what they may be."""
    limit = len(content)
    if kind == _STRING:
        str(content, "utf-8")  # the library would make bytes of what is none
        limit = MAX_NAME_BYTES if name in _NAMES else limit
    elif kind != _BYTES:
        limit = MAX_PACKED_BYTES
    if len(content) > limit:
        msg = f"{name}: {len(content)} bytes, the limit is {limit}"
        raise ValueError(msg)


def _field(data: memoryview, position: int, end: int) -> tuple[int, int | None, int]:
    """Return number, start of the content if it has a length, and end of the field."""
    tag, position = _varint(data, position, end)
    start = None
    match tag & 7:
        case 0:
            _, position = _varint(data, position, end)
        case 1:
            position += 8
        case 5:
            position += 4
        case 2:
            length, start = _varint(data, position, end)
            position = start + length
        case wire_type:
            msg = f"wire type {wire_type} at byte {position}"
            raise ValueError(msg)
    if position > end:
        msg = f"a field ends at byte {position}, what holds it at {end}"
        raise ValueError(msg)
    return tag >> 3, start, position


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """Return the number at `position`, and where it ends."""
    number = 0
    for i, byte in enumerate(data[position : min(position + _MAX_VARINT_BYTES, end)]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:  # noqa: PLR2004  # the continuation bit
            return number, position + i + 1
    msg = f"no number at byte {position}"
    raise ValueError(msg)
