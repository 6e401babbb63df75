"""Chat completions and `/reasoning` through a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from edge_agent.errors import EngineCrashed, ModelNotFound, Overloaded, Poison, PromptTooLong
from edge_agent.messages import Accepted, Delta, Failed
from tests.transports.http.scripted import ANSWER, DONE, HI, ScriptedBackend, serving, until

ACCEPTED = Accepted(prompt_tokens=7, served_by="peer:attic")
CRASHED = Failed.of(EngineCrashed("signal 9"))


def frames(text: str) -> list[Any]:
    """Return the data of each event of an SSE body; comments are left out."""
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def test_a_whole_answer_is_the_fold_of_the_stream() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        answer = await site.chat(model="tiny:latest", temperature=0)
        body = await answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert body["choices"][0]["message"]["content"] == "Hello 🙂"
    assert body["model"] == "tiny:latest"
    assert body["id"] == f"chatcmpl-{answer.headers['X-Request-Id']}"
    assert body["usage"]["completion_tokens"] == 3
    assert backend.requests[0].sampling.temperature == 0
    assert backend.closed == 1


async def test_the_answer_names_who_gave_it() -> None:
    async with serving(ScriptedBackend(ACCEPTED, DONE)) as site:
        for stream in (False, True):
            answer = await site.chat(stream=stream)
            assert answer.headers["X-Edge-Served-By"] == "peer:attic"
            await answer.read()


async def test_a_stream_has_role_content_reason_usage_and_end() -> None:
    async with serving() as site:
        answer = await site.chat(stream=True, stream_options={"include_usage": True})
        got = frames(await answer.text())

    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert got[-1] == "[DONE]"
    *chunks, usage = got[:-1]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello 🙂"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 10


async def test_without_asking_there_is_no_usage_chunk() -> None:
    async with serving() as site:
        got = frames(await (await site.chat(stream=True)).text())
    assert all(chunk["choices"] for chunk in got[:-1])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PromptTooLong(5000, 4095), 400),
        (ModelNotFound("x", ("tiny",)), 404),
        (Poison(3), 422),
        (Overloaded("the queue is full", 7), 503),
    ],
)
async def test_a_refusal_has_a_status_also_when_streaming(
    error: Exception, status: int, stream: bool
) -> None:
    backend = ScriptedBackend(Failed.of(error))  # type: ignore[arg-type]  # all are EdgeErrors
    async with serving(backend) as site:
        answer = await site.chat(stream=stream)
        body = await answer.json()

    assert answer.status == status
    assert body["error"]["message"] == str(error)
    assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)
    assert backend.closed == 1


async def test_headers_are_there_before_the_first_token() -> None:
    backend = ScriptedBackend(hold_before=1)
    async with serving(backend) as site:
        answer = await site.chat(stream=True)  # returns with the headers
        assert answer.status == 200
        assert b'"role":"assistant"' in await answer.content.readline()
        backend.go.set()
        assert frames(await answer.text())[-1] == "[DONE]"


async def test_a_quiet_stream_is_kept_alive_by_comments() -> None:
    backend = ScriptedBackend(hold_before=1)
    async with serving(backend, heartbeat_s=0.02) as site:
        answer = await site.chat(stream=True)
        lines = [await answer.content.readline() for _ in range(6)]
        assert lines.count(b": ping\n") == 2
        backend.go.set()
        text = await answer.text()

    deltas = [chunk["choices"][0]["delta"] for chunk in frames(text)[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello 🙂"


async def test_a_failure_in_mid_stream_is_an_error_and_an_end() -> None:
    async with serving(ScriptedBackend(ACCEPTED, Delta("Hel"), CRASHED)) as site:
        answer = await site.chat(stream=True)
        got = frames(await answer.text())

    assert answer.status == 200
    assert got[-2]["error"]["code"] == "engine_crashed"
    assert got[-1] == "[DONE]"


async def test_a_failure_in_the_middle_of_a_whole_answer_has_a_status() -> None:
    async with serving(ScriptedBackend(ACCEPTED, Delta("Hel"), CRASHED)) as site:
        answer = await site.chat()
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    "events", [(ACCEPTED, Delta("Hel"), RuntimeError("a bug")), (ACCEPTED, Delta("Hel"))]
)
async def test_a_stream_that_breaks_off_still_has_an_end(events: tuple[Any, ...]) -> None:
    async with serving(ScriptedBackend(*events)) as site:
        got = frames(await (await site.chat(stream=True)).text())

    assert got[-2]["error"]["code"] == "internal"
    assert got[-1] == "[DONE]"


@pytest.mark.parametrize("held", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_backend(stream: bool, held: int) -> None:
    backend = ScriptedBackend(hold_before=held)
    async with serving(backend) as site, aiohttp.ClientSession() as leaving:
        asking = asyncio.create_task(
            leaving.post(f"{site.url}/v1/chat/completions", json={**HI, "stream": stream})
        )
        await until(lambda: bool(backend.requests))
        assert not backend.closed

        if stream and held:
            (await asking).close()
        else:
            asking.cancel()

        await until(lambda: backend.closed == 1)


async def test_closing_the_server_ends_open_streams() -> None:
    backend = ScriptedBackend(hold_before=1)
    async with serving(backend) as site, aiohttp.ClientSession() as staying:
        url = f"{site.url}/v1/chat/completions"
        async with staying.post(url, json={**HI, "stream": True}) as answer:
            await answer.content.readline()
            await site.server.close()
        assert backend.closed == 1


async def test_many_streams_at_once_do_not_mix() -> None:
    async with serving() as site:
        answers = await asyncio.gather(*(site.chat(stream=True) for _ in range(20)))
        texts = await asyncio.gather(*(answer.text() for answer in answers))
    for answer, text in zip(answers, texts, strict=True):
        ids = {chunk["id"] for chunk in frames(text)[:-1]}
        assert ids == {f"chatcmpl-{answer.headers['X-Request-Id']}"}


async def test_reasoning_answers_in_its_own_words() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        answer = await site.post("/reasoning", {"prompt": "2+2?", "task_type": "math"})
        body = await answer.json()

    assert answer.status == 200
    assert body["generated_text"] == "Hello 🙂"
    assert body["task_type"] == "math"
    assert body["model"] == "tiny"
    assert body["inference_time"] >= 0
    assert body["request_id"] == backend.requests[0].id


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"prompt": "x", "task_type": "poetry"}, 400, "invalid_request"),
        ({"prompt": "x", "stream": True}, 400, "unsupported"),
        (b"{", 400, "invalid_request"),
    ],
)
async def test_reasoning_refuses_with_a_true_status(body: object, status: int, code: str) -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        answer = await site.post("/reasoning", body)
        assert answer.status == status
        got = await answer.json()
    assert got["code"] == code
    assert isinstance(got["error"], str)
    assert not backend.requests


async def test_reasoning_tells_how_the_engine_failed() -> None:
    async with serving(ScriptedBackend(*ANSWER[:2], CRASHED)) as site:
        answer = await site.post("/reasoning", {"prompt": "x"})
        assert answer.status == 503
        assert (await answer.json())["code"] == "engine_crashed"
