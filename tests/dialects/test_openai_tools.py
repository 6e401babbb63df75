"""Tools, choices and calls: what they become, and what is refused by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from edge_agent.config import Limits
from edge_agent.dialects.body import Fields
from edge_agent.dialects.openai_tools import call_body, read_calls, read_choice, read_tools
from edge_agent.errors import EdgeError, InvalidRequest, TooLarge, Unsupported
from edge_agent.messages import NamedTool, Tool, ToolCall, ToolMode
from tests.dialects.test_body import json_values

LIMITS = Limits()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


def tools(*values: object) -> tuple[Tool, ...]:
    return read_tools(Fields({"tools": list(values)}), LIMITS)


def choice(value: object, *names: str) -> object:
    offered = tuple(Tool(name=name) for name in names)
    return read_choice(Fields({"tool_choice": value}), offered)


def calls(*values: object) -> tuple[ToolCall, ...]:
    return read_calls(Fields({"tool_calls": list(values)}, "messages[1]"), LIMITS)


def test_a_tool_keeps_its_schema() -> None:
    found = tools(function(name="get_weather", description="Now.", parameters=SCHEMA, strict=False))

    assert found == (Tool(name="get_weather", description="Now.", parameters=SCHEMA),)


def test_a_tool_needs_a_name_only() -> None:
    assert tools(function(name="a.b-c_1", parameters=None)) == (Tool(name="a.b-c_1"),)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("f", "tools[0]"),
        ({}, "tools[0].type"),
        ({"type": "function"}, "tools[0].function"),
        ({"type": "function", "function": 1}, "tools[0].function"),
        ({"type": "function", "function": {}}, "tools[0].function.name"),
        (function(name=""), "tools[0].function.name"),
        (function(name="a b"), "tools[0].function.name"),
        (function(name="<|end|>"), "tools[0].function.name"),
        (function(name="f" * 129), "tools[0].function.name"),
        (function(name=1), "tools[0].function.name"),
        (function(description=1), "tools[0].function.description"),
        (function(parameters=[]), "tools[0].function.parameters"),
        (function(strict="yes"), "tools[0].function.strict"),
    ],
)
def test_a_bad_tool_is_named(value: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tools(value)
    assert type(refused.value) is InvalidRequest
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "web_search"}, "tools[0].type"),
        (function(strict=True), "tools[0].function.strict"),
    ],
)
def test_what_is_not_offered_is_refused(value: object, param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        tools(value)
    assert refused.value.param == param


def test_no_tools_are_left_out_and_not_empty() -> None:
    assert read_tools(Fields({}), LIMITS) == ()
    with pytest.raises(InvalidRequest, match="must not be empty"):
        tools()


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[1\]\.function\.name"):
        tools(function(), function())


def test_tools_are_bounded_in_number_and_size() -> None:
    with pytest.raises(TooLarge, match="129 tools"):
        tools(*[function(name=f"f{i}") for i in range(129)])
    with pytest.raises(TooLarge, match=r"tools: .* bytes is over the limit of 2048 bytes"):
        read_tools(
            Fields({"tools": [function(description="x" * 2048)]}),
            replace(LIMITS, max_tools_bytes=2048),
        )


def test_a_choice_is_a_mode_or_a_name() -> None:
    named = {"type": "function", "function": {"name": "g"}}

    assert choice(None) is choice(None, "f") is ToolMode.AUTO
    assert choice("none") is choice("none", "f") is ToolMode.NONE
    assert choice("required", "f") is ToolMode.REQUIRED
    assert choice(named, "f", "g") == NamedTool("g")


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("sometimes", "tool_choice"),
        (1, "tool_choice"),
        ([], "tool_choice"),
        ({}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.function"),
        ({"type": "function", "function": {"name": "g"}}, "tool_choice.function.name"),
    ],
)
def test_a_bad_choice_is_named(value: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        choice(value, "f")
    assert refused.value.param == param


@pytest.mark.parametrize(
    "value", ["auto", "required", {"type": "function", "function": {"name": "f"}}]
)
def test_a_choice_without_tools_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="only allowed with tools"):
        choice(value)


def test_a_call_goes_there_and_back() -> None:
    call = ToolCall(id="c1", name="f", arguments='{"city": "Köln", "n": [1, {"a": null}]}')

    assert calls(call_body(call)) == (call,)


def test_a_call_without_arguments_has_none() -> None:
    assert calls({"id": "c", "function": {"name": "f", "arguments": ""}})[0].arguments == "{}"


NO_OBJECTS: list[object] = ["[]", "{", "{}{}", '"{}"', "NaN", "[" * 5000, '{"a":' * 40, {}]


@pytest.mark.parametrize(
    ("call", "param"),
    [
        ({"type": "function", "function": {"name": "f"}}, "messages[1].tool_calls[0].id"),
        ({"id": "1" * 129}, "messages[1].tool_calls[0].id"),
        ({"id": "1", "type": "function"}, "messages[1].tool_calls[0].function"),
        ({"id": "1", "function": {}}, "messages[1].tool_calls[0].function.name"),
        *[
            (
                {"id": "1", "function": {"name": "f", "arguments": arguments}},
                "messages[1].tool_calls[0].function.arguments",
            )
            for arguments in NO_OBJECTS
        ],
    ],
)
def test_a_bad_call_is_named(call: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        calls(call)
    assert refused.value.param == param


@given(json_values, json_values, json_values)
def test_arbitrary_json_is_read_or_an_error_of_ours(
    some: object, more: object, called: object
) -> None:
    for body in (
        {"tools": some, "tool_choice": more, "tool_calls": called},
        {
            "tools": [function(parameters=some, description=more)],
            "tool_choice": {"type": some, "function": more},
            "tool_calls": [{"id": "1", "function": called}],
        },
    ):
        fields = Fields(body)
        with suppress(EdgeError):
            read_choice(fields, read_tools(fields, LIMITS))
        with suppress(EdgeError):
            read_calls(fields, LIMITS)
