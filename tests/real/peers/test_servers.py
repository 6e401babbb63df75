"""Real servers as peers: `EDGE_TEST_PEER_OPENAI=http://… pytest -m long tests/real/peers`.

The variable names one or more servers of OpenAI's protocol on this machine (vLLM, llama.cpp, this
project's own), separated by commas. Each is stopped and continued by signals, never ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Failed,
    FinishReason,
    Message,
    NamedTool,
    Role,
    Sampling,
    Tool,
    ToolMode,
)
from edge_agent.serving.peers.capability import Flavour
from tests.serving.peers.house import events, house, outcome, request, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent import config

URLS = [url for url in os.environ.get("EDGE_TEST_PEER_OPENAI", "").split(",") if url]
KNOWN = {Flavour.VLLM, Flavour.LLAMA_CPP, Flavour.EDGE_AGENT}
PATIENCE_S = 300.0
GREEDY = Sampling(temperature=0)
LIGHT = Tool(
    name="light",
    description="Switch the light.",
    parameters={
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
    },
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.real,
    pytest.mark.timeout(PATIENCE_S),
    pytest.mark.skipif(not URLS, reason="EDGE_TEST_PEER_OPENAI names no server"),
    pytest.mark.parametrize("url", URLS),
]


def peer(url: str, **fields: Any) -> config.Peer:
    with urllib.request.urlopen(f"{url}/v1/models") as reply:  # noqa: S310  # loopback
        name = json.load(reply)["data"][0]["id"]
    return settings(url, **{"model": name, "first_byte_timeout_s": 120.0, **fields})


def server(url: str) -> psutil.Process:
    """Return the process that listens there."""
    port = urlsplit(url).port
    for each in psutil.net_connections("tcp4"):
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port:
            assert each.pid
            return psutil.Process(each.pid)
    pytest.fail(f"nothing listens on {port}")


@contextmanager
def frozen(url: str) -> Iterator[None]:
    process = server(url)
    family = [process, *process.children(recursive=True)]
    try:
        for member in family:
            member.send_signal(signal.SIGSTOP)
        yield
    finally:
        for member in family:
            member.send_signal(signal.SIGCONT)


async def test_a_probe_knows_whose_server_it_is(url: str) -> None:
    async with house(peer(url)) as peers:
        await peers.probe()
        (state,) = peers.states()
    assert state.problem is None
    assert state.flavour in KNOWN


async def test_a_streamed_answer_is_the_same_twice(url: str) -> None:
    asked = request(max_tokens=12, sampling=GREEDY)
    async with house(peer(url)) as peers:
        await peers.probe()
        first, again = await events(peers, asked), await outcome(peers, asked)
    assert isinstance(first[0], Accepted)
    assert sum(isinstance(event, Delta) for event in first) > 1
    assert isinstance(again, Answer)
    assert again.text == "".join(event.text for event in first if isinstance(event, Delta))
    assert again.done.usage.prompt_tokens > 5
    assert 0 < again.done.usage.completion_tokens <= 12


async def test_sampling_goes_along(url: str) -> None:
    every = Sampling(
        temperature=0.9,
        top_k=20,
        top_p=0.9,
        min_p=0.01,
        repetition_penalty=1.1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        seed=(1 << 64) - 5,
    )
    story = (Message(role=Role.USER, content="Tell me a long story."),)
    asked = request(messages=story, max_tokens=12, sampling=every)
    async with house(peer(url)) as peers:
        await peers.probe()
        one, other = await outcome(peers, asked), await outcome(peers, asked)
    assert isinstance(one, Answer)
    assert isinstance(other, Answer)
    assert one.text == other.text  # by the seed
    assert one.done.finish_reason is FinishReason.LENGTH


async def test_a_stop_string_stops(url: str) -> None:
    asked = request(max_tokens=40, sampling=GREEDY)
    async with house(peer(url)) as peers:
        whole = await outcome(peers, asked)
        assert isinstance(whole, Answer)
        word = whole.text.split()[2]
        stopped = await outcome(peers, request(max_tokens=40, sampling=GREEDY, stop=(word,)))
    assert isinstance(stopped, Answer)
    assert stopped.done.finish_reason is FinishReason.STOP
    assert stopped.text == whole.text[: whole.text.index(word)]


async def test_a_prompt_that_is_too_long_is_the_caller_s(url: str) -> None:
    long = (Message(role=Role.USER, content="word " * 20_000),)
    async with house(peer(url)) as peers:
        last = await outcome(peers, request(messages=long))
        assert peers.states()[0].problem is None
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("context_length_exceeded", False)
    assert "context" in last.message


async def test_a_model_of_another_name_is_not_taken_for_ours(url: str) -> None:
    async with house(peer(url, model="phi-4-mini")) as peers:
        last = await outcome(peers, request(max_tokens=4))
        await peers.probe()
        (state,) = peers.states()
    assert isinstance(last, Failed)
    assert last.code == "peer_failed"
    assert state.problem is not None
    assert "has no model 'phi-4-mini'" in state.problem


@pytest.mark.parametrize("choice", [ToolMode.REQUIRED, NamedTool("light")], ids=str)
async def test_a_call_that_has_to_be_made_is_made(url: str, choice: ToolMode | NamedTool) -> None:
    """By vLLM, which holds the smallest model to the schema.

    Ours forces how a call begins and not how it goes on; llama.cpp's model takes no tools.
    """
    asked = request(tools=(LIGHT,), tool_choice=choice, max_tokens=60, sampling=GREEDY)
    async with house(peer(url)) as peers:
        await peers.probe()
        flavour = peers.states()[0].flavour
        if flavour is Flavour.LLAMA_CPP:
            assert peers.why_not(asked) == "attic has a model that takes no tools"
            return
        last = await outcome(peers, asked)
    if flavour is Flavour.EDGE_AGENT and isinstance(last, Failed):
        assert last.message == "peer 'attic' was to call a tool and did not"
        return
    assert isinstance(last, Answer)
    [call] = last.tool_calls
    assert call.name == "light"
    arguments = json.loads(call.arguments)
    assert isinstance(arguments, dict)
    if flavour is Flavour.VLLM:
        assert isinstance(arguments["on"], bool)
    assert last.done.finish_reason is FinishReason.TOOL_CALLS


async def test_a_server_tells_its_context_and_what_it_has_to_do(url: str) -> None:
    asked = request(max_tokens=1000, sampling=Sampling(temperature=1.0))
    async with house(peer(url)) as peers:
        await peers.probe()
        (idle,) = peers.states()
        async with aclosing(peers.stream(asked, peers.candidates(asked), None)) as stream:
            async for event in stream:
                if isinstance(event, Delta):
                    break
            await peers.probe()
            (busy,) = peers.states()
    assert idle.context_tokens == busy.context_tokens
    assert 0 < (idle.context_tokens or 0) <= 8192  # what the model was made for
    assert busy.problem is None
    assert busy.open_requests in {1, None}  # None: too busy to say so in time


async def test_what_cannot_fit_is_not_sent(url: str) -> None:
    endless = (Message(role=Role.USER, content="word " * 60_000),)
    async with house(peer(url)) as peers:
        await peers.probe()
        asked = request(messages=endless)
        assert peers.candidates(asked) == ()
        assert "has a context of" in peers.why_not(asked)


async def test_frozen_before_the_head_the_deadline_holds(url: str) -> None:
    async with house(peer(url)) as peers:
        with frozen(url):
            began_s = time.monotonic()
            last = await outcome(peers, request(deadline_s=1.0), limit_s=1.0)
            passed_s = time.monotonic() - began_s
        again = await outcome(peers, request(max_tokens=4))
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"
    assert 0.99 < passed_s < 3.0  # 1.002 on a quiet machine
    assert isinstance(again, Answer)


async def test_frozen_after_the_first_token_it_is_a_failed_peer(url: str) -> None:
    asked = request(max_tokens=200)
    async with house(peer(url, idle_timeout_s=1.0)) as peers:
        told = []
        async with aclosing(peers.stream(asked, peers.candidates(asked), None)) as stream:
            async for event in stream:
                told.append(event)
                if isinstance(event, Delta):
                    break
            with frozen(url):
                told += [event async for event in stream]
    assert isinstance(told[-1], Failed)
    assert told[-1].code == "peer_failed"
    assert "went silent" in told[-1].message


async def test_a_frozen_peer_does_not_pass_a_probe(url: str) -> None:
    async with house(peer(url)) as peers:
        with frozen(url):
            await peers.probe()
            (state,) = peers.states()
        assert state.problem == "does not answer within 2 s"
        await peers.probe()
        assert peers.states()[0].problem is None


async def test_who_leaves_frees_the_server(url: str) -> None:
    asked = request(max_tokens=1500, sampling=Sampling(temperature=1.0))
    async with house(peer(url)) as peers:
        for _ in range(6):  # more than either has slots
            async with aclosing(peers.stream(asked, peers.candidates(asked), None)) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        break
        async with asyncio.timeout(PATIENCE_S / 2):
            assert isinstance(await outcome(peers, request(max_tokens=2)), Answer)
