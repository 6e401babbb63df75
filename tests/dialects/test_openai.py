"""The OpenAI chat body: what it becomes, and what is refused by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Limits
from edge_agent.dialects.openai import ChatCall, parse_chat
from edge_agent.errors import EdgeError, InvalidRequest, TooLarge, Unsupported
from edge_agent.messages import Message, Role, Sampling, Tool, ToolCall, ToolMode
from tests.dialects.test_body import json_values

LIMITS = Limits()
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def parse(**fields: Any) -> ChatCall:
    return parse_chat({"messages": HI, **fields}, request_id="r1", limits=LIMITS)


def test_a_body_with_messages_only_leaves_everything_to_the_model() -> None:
    call = parse()

    assert call.request.id == "r1"
    assert call.request.messages == (Message(role=Role.USER, content="hi"),)
    assert call.request.model is None
    assert call.request.sampling == Sampling()
    assert call.request.max_tokens is None
    assert not call.request.stream
    assert not call.include_usage


def test_every_offered_field_arrives() -> None:
    call = parse(
        model="m", temperature=0, top_p=0.5, top_k=40, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=-1, frequency_penalty=2, seed=5, stop=["a"], max_tokens=9, stream=True,
        stream_options={"include_usage": True}, deadline_s=30, n=1, user="u",
    )  # fmt: skip

    assert call.include_usage
    assert call.request.model == "m"
    assert call.request.max_tokens == 9
    assert call.request.stop == ("a",)
    assert call.request.stream
    assert call.request.deadline_s == 30
    assert call.request.sampling == Sampling(
        temperature=0, top_p=0.5, top_k=40, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=-1, frequency_penalty=2, seed=5,
    )  # fmt: skip


def test_the_newer_name_of_the_answers_bound_wins() -> None:
    assert parse(max_tokens=7, max_completion_tokens=5).request.max_tokens == 5


def test_minus_one_switches_top_k_off() -> None:
    assert parse(top_k=-1).request.sampling.top_k == 0


def test_unknown_fields_and_nulls_are_tolerated() -> None:
    assert parse(store=True, metadata={"a": "b"}, temperature=None, tools=None) == parse()


def test_developer_is_another_name_for_system() -> None:
    call = parse(messages=[{"role": "developer", "content": "be brief"}, *HI])
    assert call.request.messages[0] == Message(role=Role.SYSTEM, content="be brief")


def test_text_parts_are_joined_and_an_assistant_may_have_said_nothing() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    call = parse(
        messages=[
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None},
            {"role": "user", "content": ""},
        ]
    )
    assert [message.content for message in call.request.messages] == ["a\nb", "", ""]


def test_a_dialogue_with_tools_arrives_whole() -> None:
    call = parse(
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="required",
        parallel_tool_calls=False,
        messages=[
            *HI,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
    )

    assert call.request.tools == (Tool(name="f"),)
    assert call.request.tool_choice is ToolMode.REQUIRED
    assert not call.request.parallel_tool_calls
    assert call.request.messages[1:] == (
        Message(
            role=Role.ASSISTANT,
            content="",
            tool_calls=(ToolCall(id="c1", name="f", arguments='{"a": 1}'),),
        ),
        Message(role=Role.TOOL, content="42", tool_call_id="c1"),
    )


def user(content: object) -> list[dict[str, Any]]:
    return [*HI, {"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": 1, "content": "hi"}]}, "messages[0].role"),
        ({"messages": user(None)}, "messages[1].content"),
        ({"messages": user(3)}, "messages[1].content"),
        ({"messages": user([])}, "messages[1].content"),
        ({"messages": user(["hi"])}, "messages[1].content[0]"),
        ({"messages": user([{"type": "text"}])}, "messages[1].content[0].text"),
        ({"messages": user([{"type": "text", "text": 1}])}, "messages[1].content[0].text"),
        ({"messages": user([{"text": "hi"}])}, "messages[1].content[0].type"),
        ({"model": 1}, "model"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 0.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"seed": "x"}, "seed"),
        ({"stop": 1}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": LIMITS.max_answer_tokens + 1}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_completion_tokens": 5, "max_tokens": "x"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"user": 1}, "user"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": LIMITS.max_deadline_s * 2}, "deadline_s"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
            "messages[0].tool_calls",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"response_format": "text"}, "response_format"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert type(refused.value) is InvalidRequest
    assert refused.value.param == param
    assert str(refused.value).startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "function", "content": "1"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
            "messages[0].function_call",
        ),
        ({"messages": user([{"type": "image_url"}])}, "messages[1].content[0].type"),
        ({"messages": user([{"type": "input_audio"}])}, "messages[1].content[0].type"),
        ({"functions": []}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"allowed_token_ids": [1]}, "allowed_token_ids"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"n": 2}, "n"),
        ({"suffix": "x"}, "suffix"),
        ({"chat_template": "{{x}}"}, "chat_template"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        ({"guided_json": {}}, "guided_json"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {}}, "audio"),
        ({"images": ["x"]}, "images"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        parse(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "none"},
        {"parallel_tool_calls": True},
        {"response_format": {"type": "text"}},
        {"logprobs": False, "top_logprobs": 0},
        {"logit_bias": {}, "stop_token_ids": [], "min_tokens": 0, "ignore_eos": False},
        {"modalities": ["text"]},
        {"images": []},
        {"skip_special_tokens": True},
        {"messages": [*HI, {"role": "assistant", "content": "x", "tool_calls": []}]},
    ],
)
def test_a_field_that_asks_for_nothing_special_is_no_obstacle(fields: dict[str, Any]) -> None:
    assert parse(**fields).request.messages


def test_too_many_messages_are_counted() -> None:
    with pytest.raises(TooLarge, match="257 messages is over the limit of 256 messages"):
        parse(messages=HI * 257)


def test_a_model_name_has_a_longest_length() -> None:
    with pytest.raises(TooLarge, match="model"):
        parse(model="m" * 129)


names = st.sampled_from(
    [
        "messages",
        "model",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "seed",
        "stop",
        "frequency_penalty",
        "max_tokens",
        "max_completion_tokens",
        "stream",
        "stream_options",
        "n",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "min_tokens",
        "ignore_eos",
        "user",
        "deadline_s",
        "modalities",
        "functions",
        "stop_token_ids",
    ]
)
messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": json_values,
            "content": json_values,
            "tool_calls": json_values,
            "tool_call_id": json_values,
        },
    )
    | st.fixed_dictionaries({"role": st.just("user"), "content": json_values})
)


@given(st.dictionaries(names, json_values), messages)
def test_arbitrary_json_is_a_call_or_an_error_of_ours(
    body: dict[str, Any], some: list[dict[str, Any]]
) -> None:
    for candidate in (body, {**body, "messages": some}, {**body, "messages": HI}):
        with suppress(EdgeError):
            call = parse_chat(candidate, request_id="r", limits=LIMITS)
            assert call.request.messages
