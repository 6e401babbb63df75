"""Between gateways, and to clients: where a request comes from and who answers it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import EngineCrashed
from edge_agent.messages import Accepted, Delta, Failed, Policy
from tests.transports.http.scripted import DONE, ScriptedBackend, serving

if TYPE_CHECKING:
    from pathlib import Path

HERE = Accepted(prompt_tokens=7, reason="local")
THERE = Accepted(prompt_tokens=None, served_by="attic", reason="crashed")
CRASHED = Failed.of(EngineCrashed("signal 9"))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_headers_name_the_one_who_took_over(*, stream: bool) -> None:
    async with serving(ScriptedBackend(HERE, THERE, Delta("a"), DONE)) as site:
        answer = await site.chat(stream=stream)
        assert answer.headers["X-Edge-Served-By"] == "attic"
        assert answer.headers["X-Edge-Reason"] == "crashed"
        assert "a" in await answer.text()


async def test_a_failure_before_the_first_word_is_a_status() -> None:
    async with serving(ScriptedBackend(HERE, CRASHED)) as site:
        answer = await site.chat(stream=True)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert (await answer.json())["error"]["code"] == "engine_crashed"


async def test_headers_do_not_wait_for_ever_and_a_late_change_is_told() -> None:
    backend = ScriptedBackend(HERE, THERE, Delta("a"), DONE, hold_before=1)
    async with serving(backend, heartbeat_s=0.02) as site:
        answer = await site.chat(stream=True)
        assert answer.headers["X-Edge-Served-By"] == "local"
        backend.go.set()
        text = await answer.text()
    first, late, piece, last = [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: {")
    ]
    assert first["edge"] == {"served_by": "local", "reason": "local"}
    assert late["choices"][0]["delta"] == {}
    assert late["edge"] == last["edge"] == {"served_by": "attic", "reason": "crashed"}
    assert "edge" not in piece
    assert text.endswith("data: [DONE]\n\n")


async def test_nothing_is_sent_before_somebody_has_accepted() -> None:
    backend = ScriptedBackend(CRASHED, hold_before=0)
    async with serving(backend, heartbeat_s=0.01) as site:
        asking = asyncio.create_task(site.chat(stream=True))
        await asyncio.sleep(0.05)
        assert not asking.done()
        backend.go.set()
        assert (await asking).status == 503


async def test_what_other_gateways_say_is_heard() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        body = {"messages": [{"role": "user", "content": "hi"}], "policy": "any"}
        headers = {"X_Edge_Hops": "1", "X_Edge_Policy": "site"}
        await site.post("/v1/chat/completions", body, **headers)
        await site.post("/reasoning", {"prompt": "hi"}, **headers)
        wrong = await site.post("/v1/chat/completions", body, X_Edge_Hops="many")
    chat, reasoning = backend.requests
    assert (chat.hops, chat.policy) == (reasoning.hops, reasoning.policy) == (1, Policy.SITE)
    assert wrong.status == 400


async def test_a_plain_request_says_nothing_of_its_way() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        await site.chat()
    assert (backend.requests[0].hops, backend.requests[0].policy) == (0, None)


async def test_a_request_counts_for_its_address_or_where_there_are_keys_for_its_key(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key-0123456789\nsecond-key-0123456789\n")
    backend = ScriptedBackend()
    async with serving(backend) as site:
        await site.chat()
        await site.post("/reasoning", {"prompt": "hi"}, Authorization="Bearer anything")
    async with serving(backend, api_key_file=str(keys)) as site:
        for key in ("first-key-0123456789", "second-key-0123456789", " first-key-0123456789"):
            await site.post("/reasoning", {"prompt": "hi"}, Authorization=f"Bearer {key}")
    clients = [request.client for request in backend.requests]

    assert clients[:2] == ["127.0.0.1", "127.0.0.1"]
    assert len(set(clients[1:])) == 3
    assert clients[2] == clients[4]
    assert not any("key-0" in client for client in clients)
