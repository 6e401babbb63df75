"""How a conversation with tools is put to a template: as its variables, in the form it reads.

Three forms are known. Most templates take the tools as variable `tools` and print calls and results
themselves. The one Phi-4-mini comes with takes them as text under the key `tools` of a system
message and knows no calls, so calls and results are written into contents, with the model's own
control tokens. For a template that knows nothing of tools, all of it is written into contents.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from msgspec import Struct

from edge_agent.errors import Unsupported
from edge_agent.messages import NamedTool, Role, ToolMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.messages import Message, Tool, ToolCall, ToolChoice
    from edge_agent.text.marks import Marks

# What a conversation with tools opens with if it has no system message.
_PHI_SYSTEM = "You are a helpful assistant with some tools."
# Phi-4-mini was trained on definitions with Python's names of types.
_PHI_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
_WRITTEN_BEFORE = "You can call these functions, each described by one JSON object:\n<tools>\n"
# Without an example: small models give that for an answer.
_WRITTEN_AFTER = (
    '\n</tools>\nTo call one, write a JSON object with its "name" and "arguments" '
    "between <tool_call> and </tool_call>."
)


class Form(Enum):
    """How a template takes tools."""

    VARIABLE = "variable"
    PHI = "phi"
    WRITTEN = "written"


class Opening(Struct, frozen=True):
    """What an answer has to begin with so that it is a call: a tag, and text after it."""

    tag: str
    text: str


class ToolPrompt:
    """The form that one template reads."""

    def __init__(self, template: nodes.Template, source: str) -> None:
        """Find out from the parsed `source` which form that is."""
        names = [name for name in template.find_all(nodes.Name) if name.name == "tools"]
        if any(name.ctx == "load" for name in names):
            self.form = Form.VARIABLE
        elif "<|tool|>" in source and _reads_key(template, "tools"):
            self.form = Form.PHI
        else:
            self.form = Form.WRITTEN
        # Some templates take a variable that is None for tools, others one that is not there.
        self._needs_absence = any(
            test.name == "defined" and test.node in names for test in template.find_all(nodes.Test)
        )
        self._begins = _beginning(self.form, source)

    def variables(
        self, messages: Sequence[Message], tools: Sequence[Tool], marks: Marks
    ) -> dict[str, Any]:
        """Return the variables `messages` and `tools`; all that a stranger wrote is marked."""
        match self.form:
            case Form.VARIABLE:
                offered = [marks.tree(_definition(tool)) for tool in tools] or None
                told = {"messages": _as_openai(messages, marks)}
                return (
                    told if offered is None and self._needs_absence else told | {"tools": offered}
                )
            case Form.PHI:
                return {"messages": _as_phi(messages, tools, marks)}
            case Form.WRITTEN:
                return {"messages": _as_written(messages, tools, marks)}

    def opening(self, choice: ToolChoice) -> Opening | None:
        """Return what an answer has to begin with; None if it may begin as it likes.

        Raises:
            Unsupported: it has to be a call, and it is not known how this model begins one.
        """
        if choice in {ToolMode.AUTO, ToolMode.NONE}:
            return None
        if self._begins is None:
            problem = "it is not known how this model begins a call; use auto"
            raise Unsupported(problem, "tool_choice")
        call = '{"name":'
        if isinstance(choice, NamedTool):
            call += f' {json.dumps(choice.name, ensure_ascii=False)}, "arguments":'
        return Opening(self._begins.tag, self._begins.text + call)


def _beginning(form: Form, source: str) -> Opening | None:
    """Return what stands before the object that is a call, if the form or the template tells."""
    if form is Form.PHI:
        return Opening("<|tool_call|>", "[")
    if form is Form.WRITTEN or "<tool_call>" in source:
        return Opening("<tool_call>", "\n")
    if "<|tool_call|>" in source:
        return Opening("<|tool_call|>", "")
    return None


def _reads_key(template: nodes.Template, key: str) -> bool:
    """Return whether the template looks up `key` in anything."""
    return any(node.attr == key for node in template.find_all(nodes.Getattr)) or any(
        isinstance(node.arg, nodes.Const) and node.arg.value == key
        for node in template.find_all(nodes.Getitem)
    )


def _as_openai(messages: Sequence[Message], marks: Marks) -> list[dict[str, Any]]:
    """Return messages as most templates take them: OpenAI's, but with objects for arguments."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    told = []
    for message in messages:
        entry: dict[str, Any] = _plain(message, marks)
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "id": marks.text(call.id),
                    "type": "function",
                    "function": marks.tree(_called(call)),
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            entry["tool_call_id"] = marks.text(message.tool_call_id)
            entry["name"] = marks.text(names.get(message.tool_call_id, ""))
        told.append(entry)
    return told


def _as_phi(
    messages: Sequence[Message], tools: Sequence[Tool], marks: Marks
) -> list[dict[str, Any]]:
    """Return messages with tools in the first system message, and calls and results as contents.

    The model's makers show definitions and calls; the form of results is llama.cpp's.
    """
    told = []
    for message in messages:
        entry = _plain(message, marks)
        if message.tool_calls:
            calls = marks.json([_called(call) for call in message.tool_calls])
            entry["content"] += f"<|tool_call|>{calls}<|/tool_call|>"
        if message.role is Role.TOOL:
            # The template prints any role as a control token, and this is the one of results.
            entry = {"role": "tool_response", "content": marks.json(message.content)}
        told.append(entry)
    if tools:
        system = _system(told, _PHI_SYSTEM)
        system["tools"] = marks.json([_phi_definition(tool) for tool in tools])
    return told


def _as_written(
    messages: Sequence[Message], tools: Sequence[Tool], marks: Marks
) -> list[dict[str, Any]]:
    """Return messages in words: definitions, calls and results between tags, in contents."""
    told = []
    for message in messages:
        entry = _plain(message, marks)
        for call in message.tool_calls:
            line_break = "\n" if entry["content"] else ""
            body = marks.json(_called(call))
            entry["content"] += f"{line_break}<tool_call>\n{body}\n</tool_call>"
        if message.role is Role.TOOL:
            content = f"<tool_response>\n{marks.text(message.content)}\n</tool_response>"
            entry = {"role": Role.USER.value, "content": content}
        told.append(entry)
    if tools:
        system = _system(told, "")
        definitions = "\n".join(marks.json(_definition(tool)) for tool in tools)
        words = f"{_WRITTEN_BEFORE}{definitions}{_WRITTEN_AFTER}"
        system["content"] += f"\n\n{words}" if system["content"] else words
    return told


def _plain(message: Message, marks: Marks) -> dict[str, str]:
    return {"role": message.role.value, "content": marks.text(message.content)}


def _system(told: list[dict[str, Any]], content: str) -> dict[str, Any]:
    """Return the first system message of a conversation, made of `content` if there is none."""
    for entry in told:
        if entry["role"] == Role.SYSTEM:
            return entry
    told.insert(0, {"role": Role.SYSTEM.value, "content": content})
    return told[0]


def _called(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": json.loads(call.arguments)}


def _definition(tool: Tool) -> dict[str, Any]:
    """Return a tool in OpenAI's form, which is JSON schema."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _phi_definition(tool: Tool) -> dict[str, Any]:
    """Return a tool in the form of Phi-4-mini's model card: each parameter by its name, no more."""
    properties = tool.parameters.get("properties")
    parameters = {
        name: _phi_types(schema)
        for name, schema in (properties.items() if isinstance(properties, dict) else ())
    }
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _phi_types(schema: object) -> object:
    """Return a schema with Python's name for its type, and for those inside it."""
    match schema:
        case dict():
            return {
                name: _PHI_TYPES.get(entry, entry)
                if name == "type" and isinstance(entry, str)
                else _phi_types(entry)
                for name, entry in schema.items()
            }
        case list():
            return [_phi_types(entry) for entry in schema]
        case _:
            return schema
