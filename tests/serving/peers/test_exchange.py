"""Whatever a peer does, a request gets one answer or one failure, and in time."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Failed,
    Message,
    NamedTool,
    Role,
    Tool,
    ToolMode,
)
from tests.serving.peers.double import MODEL, WORDS, Double, Fault, answer
from tests.serving.peers.house import KINDS, TEXT, events, house, outcome, request, settings
from tests.serving.scripted import until

# Far beyond every limit of a test, and far below the limit of a hang.
PATIENCE_S = 20.0
QUICK = {"first_byte_timeout_s": 0.3, "idle_timeout_s": 0.3}

# What each fault comes to: the code, and the words that say which one it was.
FAULTS: dict[str, tuple[Fault, str, str]] = {
    "killed before the first token": (Fault(die_after=0), "peer_failed", "ended the connection"),
    "killed at the first token": (Fault(die_after=1), "peer_failed", "broke off"),
    "killed after the first token": (Fault(die_after=3), "peer_failed", "broke off"),
    "frozen before the head": (Fault(freeze_after=0), "peer_failed", "went silent"),
    "frozen after the first token": (Fault(freeze_after=3), "peer_failed", "went silent"),
    "503": (Fault(status=503), "peer_failed", "status 503"),
    "429": (Fault(status=429, headers={"Retry-After": "60"}), "peer_failed", "status 429"),
    "500": (Fault(status=500, body=b'{"error": "boom"}'), "peer_failed", "status 500: boom"),
    "a redirect": (Fault(status=302, headers={"Location": "/"}), "peer_failed", "status 302"),
    "HTML": (Fault(body=b"<html>", media_type="text/html"), "peer_failed", "text/html"),
    "HTML as an answer": (Fault(pieces=[b"<html>\n"]), "peer_failed", "sends"),
    "no body": (Fault(pieces=[b"\n"]), "peer_failed", "in the middle"),
    "half a chunk": (Fault(cut_at_byte=150), "peer_failed", "broke off"),
    "a byte now and then": (Fault(byte_every_s=0.05), "peer_failed", "went silent"),
    "a request it cannot read": (Fault(status=400, body=b"{}"), "peer_refused", "status 400"),
    "no such model": (Fault(status=404), "peer_failed", "status 404"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_one_failure(kind: str, name: str) -> None:
    fault, code, words = FAULTS[name]
    limits = QUICK if words == "went silent" else {}
    async with Double(kind) as double, house(settings(double.url, kind, **limits)) as peers:
        double.fault = fault
        async with asyncio.timeout(PATIENCE_S):
            *before, last = await events(peers, request())
        assert len(double.bodies) == 1
    assert isinstance(last, Failed)
    assert last.code == code
    assert words in last.message
    assert last.message.startswith("peer 'attic' ")
    texts = [event.text for event in before if isinstance(event, Delta)]
    assert texts == list(WORDS[: len(texts)])
    assert not before or isinstance(before[0], Accepted)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_never_ends_is_ended(kind: str) -> None:
    """The second piece of the answer, over and over, up to what so few tokens may come to."""
    piece = answer(kind)[1]
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(pieces=[piece * 1000] * 40)
        async with asyncio.timeout(PATIENCE_S):
            last = await outcome(peers, request(max_tokens=1))
    assert isinstance(last, Failed)
    assert "does not stop" in last.message


@pytest.mark.parametrize("kind", KINDS)
async def test_what_follows_the_end_is_not_looked_at(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(is_endless=True)
        async with asyncio.timeout(PATIENCE_S):
            answer = await outcome(peers)
    assert isinstance(answer, Answer)
    assert answer.text == TEXT


@pytest.mark.parametrize("fault", [Fault(freeze_after=0), Fault(freeze_after=3)])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_ends_it_and_blames_nobody(kind: str, fault: Fault) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = fault
        began_s = time.monotonic()
        last = await outcome(peers, request(deadline_s=0.2), limit_s=0.2)
        passed_s = time.monotonic() - began_s
        assert peers.states()[0].problem is None
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"
    assert passed_s >= 0.19


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_may_come_byte_by_byte(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(byte_every_s=0.0)
        last = await outcome(peers)
    assert isinstance(last, Answer)
    assert last.text == TEXT


@pytest.mark.parametrize("kind", KINDS)
async def test_cut_at_any_byte_no_token_is_doubled_or_changed(kind: str) -> None:
    whole = sum(map(len, answer(kind)))
    async with Double(kind) as double:
        for cut in range(0, whole, 97):
            async with house(settings(double.url, kind)) as peers:
                double.fault = Fault(cut_at_byte=cut)
                *before, last = await events(peers, request())
            texts = [event.text for event in before if isinstance(event, Delta)]
            assert isinstance(last, Failed)
            assert texts == list(WORDS[: len(texts)])


@pytest.mark.parametrize("kind", KINDS)
async def test_who_leaves_early_ends_the_work_of_the_peer(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(freeze_after=3)
        asked = request()
        async with aclosing(peers.stream(asked, peers.candidates(asked), None)) as stream:
            async for event in stream:
                if isinstance(event, Delta):
                    break
        await until(lambda: double.left == 1)
        state = peers.states()[0]
    assert (state.running, state.problem) == (0, None)


async def test_what_the_peer_says_about_a_request_is_passed_on() -> None:
    said = b'{"error": {"message": "temperature must be non-negative", "code": 400}}'
    async with Double("openai") as double, house(settings(double.url)) as peers:
        double.fault = Fault(status=400, body=said)
        last = await outcome(peers)
        assert peers.states()[0].problem is None
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("peer_refused", False)
    assert "temperature must be non-negative" in last.message


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_daemon_knows_of_a_request_goes_along(kind: str) -> None:
    context = {"context": 2048} if kind == "ollama" else {}
    async with Double(kind) as double, house(settings(double.url, kind, **context)) as peers:
        await outcome(peers, request(hops=1, id="abc"))
        (headers,), (body,) = double.headers, double.bodies
    assert headers["x-edge-hops"] == "2"
    assert headers["x-edge-policy"] == "site"
    assert headers["x-request-id"] == "abc"
    assert body["model"] == "phi-4-mini"
    assert body["stream"] is True
    if kind == "ollama":
        assert body["options"]["num_ctx"] == 2048


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_of_a_tool_comes_from_afar(kind: str) -> None:
    function: dict[str, Any] = {"name": "light", "arguments": {"on": True}}
    piece = {
        "ollama": b'{"model":"phi-4-mini","message":{"content":"","tool_calls":[{"function":'
        b'{"name":"light","arguments":{"on":true}}}]},"done":true,"done_reason":"stop"}\n',
        "openai": b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1",'
        b'"function":{"name":"light","arguments":"{\\"on\\":true}"}}]},'
        b'"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
    }[kind]
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(pieces=[piece])
        last = await outcome(peers, request(tools=(Tool(name="light"),)))
        assert double.bodies[0]["tools"][0]["function"]["name"] == function["name"]
    assert isinstance(last, Answer)
    (call,) = last.tool_calls
    assert (call.name, call.arguments) == ("light", '{"on":true}')


@pytest.mark.parametrize("choice", [ToolMode.REQUIRED, NamedTool("light")])
async def test_who_was_to_call_a_tool_and_did_not_gave_no_answer(choice: Any) -> None:
    """Nothing of it is told, so that another may answer in its place."""
    tools = (Tool(name="light"), Tool(name="blind"))
    async with Double("openai") as double, house(settings(double.url)) as peers:
        told = await events(peers, request(tools=tools, tool_choice=choice))
        assert peers.states()[0].problem is None  # for text it is good enough
    (failed,) = told
    assert isinstance(failed, Failed)
    assert "was to call a tool and did not" in failed.message


async def test_a_forced_call_may_follow_text_or_be_cut() -> None:
    forced = request(tools=(Tool(name="light"),), tool_choice=ToolMode.REQUIRED)
    text = b'data: {"choices":[{"index":0,"delta":{"content":"Well. "}}]}\n\n'
    call = (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1",'
        b'"function":{"name":"light","arguments":"{}"}}]},"finish_reason":"stop"}]}\n\n'
    )
    cut = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
    async with Double("openai") as double, house(settings(double.url)) as peers:
        for end, num_calls in ((call, 1), (cut, 0)):
            double.fault = Fault(pieces=[text, end, b"data: [DONE]\n\n"])
            answer = await outcome(peers, forced)
            assert isinstance(answer, Answer)
            assert answer.text == "Well. "
            assert len(answer.tool_calls) == num_calls


async def test_ollama_is_asked_for_a_context_that_holds_prompt_and_answer() -> None:
    """And for the same again while it is enough: another one would load the model again."""
    short, long = (Message(role=Role.USER, content="word " * n) for n in (10, 5000))
    async with Double("ollama") as double:
        double.tells["/api/ps"] = {"models": [{"name": MODEL, "context_length": 2048}]}
        async with house(settings(double.url, "ollama")) as peers:
            await peers.probe()
            for message in (short, long, short):
                assert isinstance(await outcome(peers, request(messages=(message,))), Answer)
    assert [body["options"]["num_ctx"] for body in double.bodies] == [2048, 16384, 16384]
    assert all(body["truncate"] is False for body in double.bodies)
