"""What a model file can make us allocate is bounded before it is parsed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto

from edge_agent.errors import ModelError
from edge_agent.importers import genai_proto
from edge_agent.importers.genai_proto import parse_model


def _field(number: int, content: bytes) -> bytes:
    """Return a field with a length, as protobuf writes it."""
    size = bytearray()
    left = len(content)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([number << 3 | 2, *size, left]) + content


def _model() -> ModelProto:
    graph = GraphProto(name="g", node=[NodeProto(op_type="Add", input=["a", "b"], output=["c"])])
    return ModelProto(ir_version=10, graph=graph)


def test_a_model_is_parsed() -> None:
    model = _model()

    assert parse_model(model.SerializeToString(), "model.onnx") == model


def test_empty_messages_are_counted_before_they_become_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(genai_proto, "MAX_FIELDS", 1000)
    nodes = _field(7, _field(1, b"") * 1000)

    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX model: more than 1000 fields"):
        parse_model(nodes, "model.onnx")


def test_graphs_inside_graphs_are_not_followed_for_ever() -> None:
    graph = b""
    for _ in range(40):  # graph of an attribute of a node of a graph
        graph = _field(1, _field(5, _field(6, graph)))

    with pytest.raises(ModelError, match="nested deeper than 24"):
        parse_model(_field(7, graph), "model.onnx")


def test_packed_numbers_are_not_a_place_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genai_proto, "MAX_PACKED_BYTES", 100)
    tensor = _field(7, bytes(101))  # int64_data

    with pytest.raises(ModelError, match="int64_data: 101 bytes, the limit is 100"):
        parse_model(_field(7, _field(5, tensor)), "model.onnx")


def test_names_are_bounded_and_descriptions_are_not() -> None:
    model = _model()
    model.doc_string = "x" * 5000
    parse_model(model.SerializeToString(), "model.onnx")
    model.graph.node[0].name = "x" * 1025

    with pytest.raises(ModelError, match="name: 1025 bytes, the limit is 1024"):
        parse_model(model.SerializeToString(), "model.onnx")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x3a\x05\x0a", "a field ends at byte 7, what holds it at 3"),
        (b"\x3a", "no number at byte 1"),
        (b"\x08" + b"\xff" * 11, "no number at byte 1"),
        (b"\x3b", "wire type 3 at byte 1"),
        (b"\x3a\x04\x0a\x02\x12\x05", "a field ends at byte 11, what holds it at 6"),
        (b"\x12\x01\xff", "'utf-8' codec can't decode"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        parse_model(data, "model.onnx")


@given(st.binary(max_size=64))
def test_any_bytes_are_a_model_or_an_error(data: bytes) -> None:
    _try(data)


@given(st.data())
def test_a_damaged_model_is_a_model_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(_model().SerializeToString())
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] = data.draw(st.integers(0, 255))

    _try(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def _try(data: bytes) -> None:
    with suppress(ModelError):
        parse_model(data, "model.onnx")
