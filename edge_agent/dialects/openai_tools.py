"""Tools in OpenAI's terms, both ways: the tools of a request, the calls of an answer.

A call's arguments are, as there, not an object but the text of one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.dialects.body import Fields, decode, element
from edge_agent.errors import InvalidRequest, TooLarge, Unsupported
from edge_agent.messages import NamedTool, Tool, ToolCall, ToolChoice, ToolMode

if TYPE_CHECKING:
    from edge_agent.config import Limits

# OpenAI takes 64 characters without dots; bridges to other tool protocols write longer ones.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def read_tools(fields: Fields, limits: Limits) -> tuple[Tool, ...]:
    """Return the tools that a request offers to the model.

    Raises:
        InvalidRequest: a field is missing, mistyped or out of range; `param` is its path.
        Unsupported: a tool is no function, or wants its schema enforced.
    """
    values = fields.items("tools")
    if values is None:
        return ()
    if not values:
        raise InvalidRequest("must not be empty; leave it out", "tools")
    if len(values) > limits.max_tools:
        raise TooLarge("tools", len(values), limits.max_tools, "tools")
    size_bytes = len(msgspec.json.encode(values))
    if size_bytes > limits.max_tools_bytes:
        raise TooLarge("tools", size_bytes, limits.max_tools_bytes)
    tools = tuple(_tool(element(values, index, "tools")) for index in range(len(values)))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise InvalidRequest("is the name of an earlier tool", f"tools[{index}].function.name")
        seen.add(tool.name)
    return tools


def read_choice(fields: Fields, tools: tuple[Tool, ...]) -> ToolChoice:
    """Return field `tool_choice` of a request that offers `tools`.

    Raises:
        InvalidRequest: it is not a choice, or not among `tools`.
    """
    value = fields.value("tool_choice")
    if value is None:
        return ToolMode.AUTO
    if not tools and value != ToolMode.NONE:
        raise InvalidRequest("is only allowed with tools", "tool_choice")
    if isinstance(value, dict):
        choice = Fields(value, "tool_choice")
        _must_be_function(choice)
        name = _name(_function(choice))
        if name not in {tool.name for tool in tools}:
            raise InvalidRequest("is not among the tools", "tool_choice.function.name")
        return NamedTool(name)
    if value not in list(ToolMode):
        known = ", ".join(ToolMode)
        raise InvalidRequest(f"must be one of {known}, or name a function", "tool_choice")
    return ToolMode(str(value))


def read_calls(fields: Fields, limits: Limits) -> tuple[ToolCall, ...]:
    """Return the calls in an assistant's message.

    Raises:
        InvalidRequest: a field is missing, mistyped or out of range; `param` is its path.
    """
    values = fields.items("tool_calls") or []
    path = fields.path("tool_calls")
    if len(values) > limits.max_tools:
        raise TooLarge(path, len(values), limits.max_tools, "calls")
    return tuple(_call(element(values, index, path), limits) for index in range(len(values)))


def call_body(call: ToolCall) -> dict[str, Any]:
    """Return `call` as OpenAI writes it."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _tool(fields: Fields) -> Tool:
    _must_be_function(fields)
    function = _function(fields)
    if function.flag("strict"):
        path = function.path("strict")
        raise Unsupported("arguments are not held to their schema; leave strict out", path)
    parameters = function.object("parameters")
    return Tool(
        name=_name(function),
        description=function.text("description") or "",
        parameters=parameters.values() if parameters else {},
    )


def _call(fields: Fields, limits: Limits) -> ToolCall:
    if fields.value("type") is not None:  # some clients leave it out of what they send back
        _must_be_function(fields)
    id_ = fields.text("id", most_chars=limits.max_id_chars)
    if id_ is None:
        raise fields.missing("id")
    function = _function(fields)
    arguments = function.text("arguments") or "{}"
    try:
        decode(arguments.encode(), limits)
    except InvalidRequest as exc:
        # The text is a body of its own; in the whole request it stands here.
        raise InvalidRequest(f"not a JSON object: {exc}", function.path("arguments")) from exc
    return ToolCall(id=id_, name=_name(function), arguments=arguments)


def _function(fields: Fields) -> Fields:
    function = fields.object("function")
    if function is None:
        raise fields.missing("function")
    return function


def _must_be_function(fields: Fields) -> None:
    kind = fields.text("type")
    if kind is None:
        raise fields.missing("type")
    if kind != "function":
        raise Unsupported('only "function" is offered', fields.path("type"))


def _name(function: Fields) -> str:
    name = function.text("name")
    if name is None:
        raise function.missing("name")
    if not _NAME.fullmatch(name):
        problem = "must be 1 to 128 letters, digits and . _ -"
        raise InvalidRequest(problem, function.path("name"))
    return name
