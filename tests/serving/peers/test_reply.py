"""Bytes of strangers are cut into lines within bounds; what they say is checked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.messages import Tool, ToolCall
from edge_agent.serving.peers.reply import (
    LEAST_WIRE_BYTES,
    MOST_CALLS,
    MOST_WIRE_BYTES,
    Expected,
    Nonsense,
    call_of,
    told,
)
from tests.serving.peers.house import request

MODELS = frozenset({"phi-4-mini"})


def expected(**fields: object) -> Expected:
    tools = (Tool(name="light"), Tool(name="blind"))
    return Expected.of(request(tools=tools, **fields), MODELS)


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
