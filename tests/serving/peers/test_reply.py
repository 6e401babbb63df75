"""Bytes of strangers are cut into lines within bounds; what they say is checked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.messages import Tool, ToolCall
from edge_agent.serving.peers.reply import (
    LEAST_WIRE_BYTES,
    MOST_CALLS,
    MOST_LINE_BYTES,
    MOST_WIRE_BYTES,
    Expected,
    Lines,
    Nonsense,
    call_of,
    check_model,
    told,
)
from tests.serving.peers.house import request

MODELS = frozenset({"phi-4-mini"})


def expected(**fields: object) -> Expected:
    tools = (Tool(name="light"), Tool(name="blind"))
    return Expected.of(request(tools=tools, **fields), MODELS)


@settings(deadline=None)
@given(lines=st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"").rstrip(b"\r"))))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_do_not_depend_on_how_they_arrive(lines: list[bytes], end: bytes) -> None:
    data = b"".join(line + end for line in lines) + b"rest"
    for step in (1, 2, 7, len(data)):
        cutter = Lines(1000)
        parts = [data[index : index + step] for index in range(0, len(data), step)]
        assert [line for part in parts for line in cutter.split(part)] == lines


def test_a_line_is_bounded() -> None:
    cutter = Lines(10 * MOST_LINE_BYTES)
    assert list(cutter.split(b"x" * MOST_LINE_BYTES)) == []
    with pytest.raises(Nonsense, match="a line of more than"):
        list(cutter.split(b"x"))


def test_the_whole_is_bounded() -> None:
    cutter = Lines(100)
    assert len(list(cutter.split(b"1234\n" * 20))) == 20
    with pytest.raises(Nonsense, match="does not stop"):
        list(cutter.split(b"\n"))


@pytest.mark.parametrize(
    ("max_tokens", "most_bytes"),
    [
        (None, MOST_WIRE_BYTES),
        (1, LEAST_WIRE_BYTES + 2048),
        (1 << 20, MOST_WIRE_BYTES),
    ],
)
def test_a_short_answer_may_not_take_long(max_tokens: int | None, most_bytes: int) -> None:
    assert expected(max_tokens=max_tokens).most_bytes == most_bytes


def test_what_may_come_follows_from_the_request() -> None:
    assert expected().tools == {"light", "blind"}
    assert expected().most_calls == MOST_CALLS
    assert expected(parallel_tool_calls=False).most_calls == 1


@pytest.mark.parametrize("name", [None, "", "phi-4-mini", "phi-4-mini:latest"])
def test_a_model_may_say_its_name_or_nothing(name: str | None) -> None:
    check_model(name, expected())


@pytest.mark.parametrize("name", ["phi-4", "phi-4-mini:3.8b", "gpt\x00\n"])
def test_another_model_is_no_answer(name: str) -> None:
    with pytest.raises(Nonsense, match="another model"):
        check_model(name, expected())


def call(**fields: object) -> ToolCall:
    values: dict[str, object] = {"name": "light", "arguments": '{"on": true}', "id_": "c1"}
    values |= fields
    return call_of(**values, expected=expected(), new_id=lambda: "new")  # type: ignore[arg-type]


def test_a_call_comes_as_it_was_made() -> None:
    assert call() == ToolCall(id="c1", name="light", arguments='{"on": true}')


@pytest.mark.parametrize("id_", [None, "", "x" * 129])
def test_a_call_without_a_usable_id_gets_one(id_: str | None) -> None:
    assert call(id_=id_).id == "new"


def test_no_arguments_are_an_empty_object() -> None:
    assert call(arguments="").arguments == "{}"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "door"},
        {"name": None},
        {"arguments": "[]"},
        {"arguments": '"on"'},
        {"arguments": '{"on": '},
        {"arguments": "[" * 100_000},
    ],
)
def test_a_call_that_nobody_can_make_is_no_answer(change: dict[str, object]) -> None:
    with pytest.raises(Nonsense, match="calls"):
        call(**change)


@settings(deadline=None)
@given(st.text())
def test_what_a_peer_says_is_told_in_one_short_line(text: str) -> None:
    line = told(text)
    assert len(line) <= 201
    assert line.isprintable()
