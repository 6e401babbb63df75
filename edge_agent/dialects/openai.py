"""The OpenAI chat dialect, reading side: a `/v1/chat/completions` body becomes a `Request`.

Bounds that are not in `Limits` are those of the OpenAI API and of vLLM's additions to it. What is
well-formed but not offered is refused by name: silently ignoring it would change the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from edge_agent.dialects.body import (
    INT64_MAX,
    Fields,
    deadline_s,
    element,
    kind,
    policy,
    priority,
    seed,
    stop_strings,
)
from edge_agent.dialects.keep_alive import keep_alive_s
from edge_agent.dialects.openai_tokens import (
    read_bias,
    read_logprobs,
    read_min_tokens,
    read_stop_ids,
)
from edge_agent.dialects.openai_tools import read_calls, read_choice, read_tools
from edge_agent.errors import InvalidRequest, TooLarge, Unsupported
from edge_agent.messages import Message, Request, Role, Sampling, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Limits

MOST_TEMPERATURE = 2.0
MOST_PENALTY = 2.0
# vLLM sets no upper bound; beyond this every token is as good as forbidden.
MOST_REPETITION_PENALTY = 10.0
# No vocabulary is larger; vLLM writes -1 for "off".
MOST_TOP_K = 1 << 20

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_ROLES_NOT_OFFERED = ("function",)
_PARTS_NOT_OFFERED = ("image_url", "input_audio", "file", "video_url", "audio_url", "refusal")

# Fields that change the answer and are not offered, each with the values that ask for nothing.
_NOT_OFFERED: dict[str, Callable[[object], bool]] = {
    "audio": lambda _: False,
    "add_generation_prompt": lambda value: value is True,
    "allowed_token_ids": lambda _: False,
    "bad_words": lambda value: value == [],
    "best_of": lambda value: value == 1,
    "chat_template": lambda _: False,
    "continue_final_message": lambda value: value is False,
    "documents": lambda value: value == [],
    "echo": lambda value: value is False,
    "function_call": lambda value: value == "none",
    "functions": lambda _: False,
    "guided_choice": lambda _: False,
    "guided_grammar": lambda _: False,
    "guided_json": lambda _: False,
    "guided_regex": lambda _: False,
    "images": lambda value: value == [],
    "include_stop_str_in_output": lambda value: value is False,
    "logprob_token_ids": lambda value: value == [],
    "modalities": lambda value: value == ["text"],
    "prompt_logprobs": lambda _: False,
    "return_tokens_as_token_ids": lambda value: value is False,
    "skip_special_tokens": lambda value: value is True,
    "structured_outputs": lambda _: False,
    "suffix": lambda value: value == "",
    "truncate_prompt_tokens": lambda _: False,
    "use_beam_search": lambda value: value is False,
    "web_search_options": lambda _: False,
}


class ChatCall(Struct, frozen=True, kw_only=True):
    """A chat request and how its answer is to be rendered."""

    request: Request
    include_usage: bool = False


def parse_chat(body: dict[str, Any], *, request_id: str, limits: Limits) -> ChatCall:
    """Return what `body` asks for.

    Raises:
        InvalidRequest: a known field is missing, mistyped or out of range; `param` is its path.
        Unsupported: the body asks for something that is not offered.
    """
    fields = Fields(body)
    messages = _messages(fields, limits)
    _refuse_not_offered(fields)
    stream = fields.flag("stream") or False
    tools = read_tools(fields, limits)
    fields.text("user")
    max_tokens = _max_tokens(fields, limits)
    request = Request(
        id=request_id,
        model=fields.text("model", most_chars=limits.max_model_chars),
        messages=messages,
        sampling=_sampling(fields),
        max_tokens=max_tokens,
        stop=stop_strings(fields, limits),
        stream=stream,
        deadline_s=deadline_s(fields, limits),
        tools=tools,
        tool_choice=read_choice(fields, tools),
        parallel_tool_calls=fields.flag("parallel_tool_calls") is not False,
        policy=policy(fields),
        priority=priority(fields),
        keep_alive_s=keep_alive_s(fields),
        logprobs=read_logprobs(fields),
        logit_bias=read_bias(fields),
        min_tokens=read_min_tokens(fields, limits, max_tokens=max_tokens),
        ignore_eos=fields.flag("ignore_eos") or False,
        stop_token_ids=read_stop_ids(fields),
    )
    return ChatCall(request=request, include_usage=_include_usage(fields, stream=stream))


def _messages(fields: Fields, limits: Limits) -> tuple[Message, ...]:
    values = fields.items("messages")
    if values is None:
        raise fields.missing("messages")
    if not values:
        raise InvalidRequest("must hold at least one message", "messages")
    if len(values) > limits.max_messages:
        raise TooLarge("messages", len(values), limits.max_messages, "messages")
    return tuple(
        _message(element(values, index, "messages"), limits) for index in range(len(values))
    )


def _message(fields: Fields, limits: Limits) -> Message:
    name = fields.text("role")
    if name is None:
        raise fields.missing("role")
    if name in _ROLES_NOT_OFFERED:
        raise Unsupported('tool results are offered with role "tool"', fields.path("role"))
    role = _ROLES.get(name)
    if role is None:
        raise InvalidRequest(f"must be one of {', '.join(_ROLES)}", fields.path("role"))
    if fields.value("function_call") is not None:
        raise Unsupported('calls are offered as "tool_calls"', fields.path("function_call"))
    content = fields.value("content")
    if content is None and role is not Role.ASSISTANT:
        raise fields.missing("content")
    return Message(
        role=role,
        content=_content(content, fields.path("content")),
        tool_calls=_calls(fields, role, limits),
        tool_call_id=_call_id(fields, role, limits),
    )


def _calls(fields: Fields, role: Role, limits: Limits) -> tuple[ToolCall, ...]:
    calls = read_calls(fields, limits)
    if calls and role is not Role.ASSISTANT:
        raise InvalidRequest("only an assistant's message has them", fields.path("tool_calls"))
    return calls


def _call_id(fields: Fields, role: Role, limits: Limits) -> str | None:
    """Return which call a tool's message answers; that of another role says nothing."""
    id_ = fields.text("tool_call_id", most_chars=limits.max_id_chars)
    if role is not Role.TOOL:
        return None
    if id_ is None:
        raise fields.missing("tool_call_id")
    return id_


def _content(content: object, path: str) -> str:
    """Return the text of a message; parts are joined by line breaks, as vLLM joins them."""
    match content:
        case None:
            return ""
        case str():
            return content
        case []:
            raise InvalidRequest("must hold at least one part", path)
        case list():
            return "\n".join(_part(element(content, index, path)) for index in range(len(content)))
        case _:
            raise InvalidRequest(f"expected a string or a list, found {kind(content)}", path)


def _part(fields: Fields) -> str:
    name = fields.text("type")
    if name in _PARTS_NOT_OFFERED:
        raise Unsupported("this model reads text only", fields.path("type"))
    if name != "text":
        raise InvalidRequest('must be "text"', fields.path("type"))
    text = fields.text("text")
    if text is None:
        raise fields.missing("text")
    return text


def _sampling(fields: Fields) -> Sampling:
    top_k = fields.integer("top_k", least=-1, most=MOST_TOP_K)
    return Sampling(
        temperature=fields.number("temperature", least=0, most=MOST_TEMPERATURE),
        top_k=None if top_k is None else max(top_k, 0),
        top_p=fields.number("top_p", least=0, most=1, least_included=False),
        min_p=fields.number("min_p", least=0, most=1),
        repetition_penalty=fields.number(
            "repetition_penalty", least=0, most=MOST_REPETITION_PENALTY, least_included=False
        ),
        presence_penalty=fields.number("presence_penalty", least=-MOST_PENALTY, most=MOST_PENALTY),
        frequency_penalty=fields.number(
            "frequency_penalty", least=-MOST_PENALTY, most=MOST_PENALTY
        ),
        seed=seed(fields),
    )


def _max_tokens(fields: Fields, limits: Limits) -> int | None:
    """Return the bound of the answer; the newer name wins, but both are checked."""
    older = fields.integer("max_tokens", least=1, most=limits.max_answer_tokens)
    newer = fields.integer("max_completion_tokens", least=1, most=limits.max_answer_tokens)
    return older if newer is None else newer


def _include_usage(fields: Fields, *, stream: bool) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    if not stream:
        raise InvalidRequest("is only allowed when stream is true", "stream_options")
    return options.flag("include_usage") or False


def _refuse_not_offered(fields: Fields) -> None:
    if (fields.integer("n", least=1, most=INT64_MAX) or 1) > 1:
        raise Unsupported("one answer per request is offered", "n")
    response_format = fields.object("response_format")
    if response_format is not None and response_format.text("type") != "text":
        raise Unsupported('only "text" is offered', "response_format.type")
    for name, asks_nothing in _NOT_OFFERED.items():
        value = fields.value(name)
        if value is not None and not asks_nothing(value):
            raise Unsupported("is not offered", name)
