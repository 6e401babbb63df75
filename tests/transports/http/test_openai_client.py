"""OpenAI's own Python client, unmodified, against our server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest

from edge_agent.errors import (
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptTooLong,
)
from edge_agent.messages import Accepted, Delta, Failed
from tests.transports.http.scripted import ScriptedBackend, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from openai.types.chat import ChatCompletionMessageParam

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
