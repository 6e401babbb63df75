"""OpenAI's own Python client, unmodified, against our server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import openai
import pytest
from msgspec.structs import replace

from edge_agent.errors import (
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptTooLong,
)
from edge_agent.messages import (
    Accepted,
    Delta,
    Failed,
    FinishReason,
    Message,
    NamedTool,
    Role,
    Tool,
    ToolCall,
)
from tests.transports.http.scripted import DONE, ScriptedBackend, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

    from edge_agent.errors import EdgeError

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def client_of(
    backend: ScriptedBackend, *, key: str = "none", retries: int = 0, **http: Any
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serving(backend, **http) as site,
        openai.AsyncOpenAI(
            base_url=f"{site.url}/v1", api_key=key, max_retries=retries, timeout=20
        ) as client,
    ):
        yield client


async def test_it_gets_a_whole_answer() -> None:
    async with client_of(ScriptedBackend()) as client:
        answer = await client.chat.completions.create(model="tiny", messages=MESSAGES)

    assert answer.choices[0].message.content == "Hello 🙂"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_it_streams_and_survives_heartbeats() -> None:
    backend = ScriptedBackend(hold_before=1)
    async with client_of(backend, heartbeat_s=0.01) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            backend.go.set()

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello 🙂"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


CALLS = (
    ToolCall(id="c1", name="now", arguments='{"zone": "UTC"}'),
    ToolCall(id="c2", name="now", arguments="{}"),
)
WITH_CALLS = ScriptedBackend(
    Accepted(prompt_tokens=7),
    Delta("One moment."),
    *CALLS,
    replace(DONE, finish_reason=FinishReason.TOOL_CALLS),
)
TOOLS: list[ChatCompletionToolUnionParam] = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
]


async def test_it_gets_calls_and_sends_their_results() -> None:
    async with client_of(WITH_CALLS) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, tools=TOOLS, parallel_tool_calls=True
        )
        message = answer.choices[0].message
        await client.chat.completions.create(
            model="tiny",
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "now"}},
            messages=[
                *MESSAGES,
                cast("ChatCompletionMessageParam", message.to_dict()),
                {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
                {"role": "tool", "tool_call_id": "c2", "content": "13:00"},
            ],
        )

    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content == "One moment."
    assert message.tool_calls
    called = [call.function for call in message.tool_calls if call.type == "function"]
    assert [(call.name, call.arguments) for call in called] == [
        ("now", '{"zone": "UTC"}'), ("now", "{}"),
    ]  # fmt: skip
    request = WITH_CALLS.requests[-1]
    assert request.messages[1] == Message(
        role=Role.ASSISTANT, content="One moment.", tool_calls=CALLS
    )
    assert [each.tool_call_id for each in request.messages[2:]] == ["c1", "c2"]
    assert request.tools == (Tool(name="now", parameters={"type": "object"}),)
    assert request.tool_choice == NamedTool("now")


async def test_it_streams_calls() -> None:
    async with client_of(WITH_CALLS) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, tools=TOOLS, stream=True
        )
        chunks = [chunk.choices[0] async for chunk in stream]

    deltas = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    assert [(call.index, call.id) for call in deltas] == [(0, "c1"), (1, "c2")]
    assert deltas[0].function
    assert (deltas[0].function.name, deltas[0].function.arguments) == ("now", '{"zone": "UTC"}')
    assert chunks[-1].finish_reason == "tool_calls"


async def test_its_helper_for_streams_puts_calls_together() -> None:
    async with (
        client_of(WITH_CALLS) as client,
        client.chat.completions.stream(model="tiny", messages=MESSAGES, tools=TOOLS) as stream,
    ):
        answer = await stream.get_final_completion()

    calls = answer.choices[0].message.tool_calls
    assert calls
    assert [call.function.arguments for call in calls] == ['{"zone": "UTC"}', "{}"]


async def test_it_lists_and_finds_models() -> None:
    async with client_of(ScriptedBackend()) as client:
        listed = [model.id async for model in client.models.list()]
        found = await client.models.retrieve("tiny")

    assert listed == ["tiny"]
    assert found.id == "tiny"
    assert found.owned_by == "edge-agent"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (InvalidRequest("is bad", "messages"), openai.BadRequestError),
        (PromptTooLong(5000, 4095), openai.BadRequestError),
        (ModelNotFound("x", ()), openai.NotFoundError),
        (Overloaded("full", 1), openai.InternalServerError),
    ],
)
async def test_it_raises_its_own_error_for_each_of_ours(
    error: EdgeError, raised: type[openai.APIStatusError]
) -> None:
    async with client_of(ScriptedBackend(Failed.of(error))) as client:
        for stream in (False, True):
            with pytest.raises(raised) as caught:
                await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=stream)
            assert caught.value.code == error.code
            assert caught.value.param == error.param
            assert str(error) in caught.value.message


async def test_it_raises_when_a_stream_fails_in_the_middle() -> None:
    crashed = Failed.of(EngineCrashed("signal 9"))
    backend = ScriptedBackend(Accepted(prompt_tokens=7), Delta("Hel"), crashed)
    async with client_of(backend) as client:
        stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="signal 9") as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "engine_crashed"


async def test_it_does_not_retry_what_cannot_succeed() -> None:
    backend = ScriptedBackend(Failed(code="internal", message="a bug", retryable=False))
    async with client_of(backend, retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert len(backend.requests) == 1


async def test_it_retries_what_may_succeed() -> None:
    failed = Failed(code="overloaded", message="full", retryable=True)
    backend = ScriptedBackend(failed)
    async with client_of(backend, retries=1) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert len(backend.requests) == 2


async def test_its_key_is_asked_for(tmp_path: Path) -> None:
    key = "a-key-of-this-test-0123"
    path = tmp_path / "keys"
    path.write_text(key)
    async with client_of(ScriptedBackend(), key=key, api_key_file=str(path)) as client:
        answer = await client.chat.completions.create(model="tiny", messages=MESSAGES)
        assert answer.choices
    async with client_of(ScriptedBackend(), key="x", api_key_file=str(path)) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
