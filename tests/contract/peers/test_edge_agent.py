"""Another edge-agent as a peer: the whole daemon on a socket, its engine without a model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent import config
from edge_agent.messages import Answer, Delta, Failed, Message, Policy, Request, Role, Sampling
from edge_agent.serving.peers.capability import Flavour
from tests import daemon_process
from tests.serving.peers.house import events, house, outcome, settings
from tests.serving.scripted import poll
from tests.worker.text_engine import DIE, answer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.messages import Event
    from tests.daemon_process import Served

TEXT_DAEMON = Path(daemon_process.__file__).with_name("text_daemon.py")
MODEL = config.Config().model
WORDS = "one two three four five"


def asked(prompt: str = WORDS, **fields: Any) -> Request:
    return Request(**{"id": "r1", "messages": (Message(role=Role.USER, content=prompt),), **fields})


def peer(served: Served, **fields: Any) -> config.Peer:
    return settings(served.url, model=MODEL, **fields)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """Return a gateway that says a word every few milliseconds."""
    command = [sys.executable, str(TEXT_DAEMON), "--pace-s", "0.02", "--slots", "2"]
    with daemon_process.serving(command, tmp_path) as served:
        served.wait_ready()
        yield served


async def test_a_gateway_is_recognized_and_answers(gateway: Served) -> None:
    async with house(peer(gateway)) as peers:
        await peers.probe()
        (state,) = peers.states()
        assert (state.flavour, state.problem) == (Flavour.EDGE_AGENT, None)
        told = await events(peers, asked(sampling=Sampling(top_k=3), max_tokens=50))
        whole = await outcome(peers, asked())
    assert [event.text for event in told if isinstance(event, Delta)] == [
        f"{word} " for word in answer_of(WORDS).split()
    ]
    assert isinstance(whole, Answer)
    assert whole.text == answer_of(WORDS)
    assert whole.done.usage.completion_tokens == 5


async def test_what_does_not_fit_a_gateway_is_the_caller_s(gateway: Served) -> None:
    async with house(peer(gateway)) as peers:
        last = await outcome(peers, asked("word " * 2000))
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("context_length_exceeded", False)
    assert "the limit is 999" in last.message


async def test_a_gateway_tells_its_context_and_its_queue(gateway: Served) -> None:
    async with house(peer(gateway)) as peers:
        await peers.probe()
        (state,) = peers.states()
        assert (state.context_tokens, state.open_requests) == (1000, 0)
        far_too_long = asked("word " * 5000)
        assert peers.candidates(far_too_long) == ()
        assert "a context of 1000 tokens, and the prompt takes at least 1250" in peers.why_not(
            far_too_long
        )


async def test_an_engine_that_dies_there_ends_the_answer_here(gateway: Served) -> None:
    async with house(peer(gateway)) as peers:
        *told, last = await events(peers, asked(f"{DIE} and more"))
    assert isinstance(last, Failed)
    assert last.code == "peer_failed"
    assert "the engine process ended" in last.message
    assert [event.text for event in told if isinstance(event, Delta)] == ["0:more ", "1:and "]


@pytest.mark.parametrize("policy", [Policy.SITE, Policy.ANY])
async def test_gateways_do_not_pass_a_request_around(gateway: Served, policy: Policy) -> None:
    """We are the second gateway that this request comes through; that one would be the third."""
    async with house(peer(gateway), policy="any") as peers:
        twice = asked(hops=1, policy=policy)
        refused = await events(peers, twice)
        await peers.probe()
        assert peers.candidates(twice) == ()
        assert "come through one already" in peers.why_not(twice)
    (failed,) = refused
    assert isinstance(failed, Failed)
    assert "status 403: came through 2 edge_agents, the limit is 1" in failed.message


async def test_a_gateway_that_freezes_is_bounded_by_the_deadline(gateway: Served) -> None:
    async with house(peer(gateway)) as peers:
        os.kill(gateway.process.pid, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            last = await outcome(peers, asked(deadline_s=0.5), limit_s=0.5)
            passed_s = time.monotonic() - began_s
        finally:
            os.kill(gateway.process.pid, signal.SIGCONT)
        assert isinstance(await outcome(peers, asked()), Answer)
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"
    assert passed_s >= 0.49


@pytest.mark.parametrize("num_words", [0, 2])
async def test_a_gateway_that_is_killed(gateway: Served, num_words: int) -> None:
    texts: list[str] = []
    last: Event | None = None
    async with house(peer(gateway)) as peers:
        if not num_words:
            gateway.process.kill()
            gateway.ended()
        request = asked("word " * 200)
        async with aclosing(peers.stream(request, peers.candidates(request), None)) as stream:
            async for event in stream:
                last = event
                if isinstance(event, Delta):
                    texts.append(event.text)
                if num_words and len(texts) == num_words:
                    gateway.process.kill()
    assert isinstance(last, Failed)
    assert last.code == "peer_failed"
    whole = [f"{word} " for word in answer_of("word " * 200).split()]
    assert texts == whole[: len(texts)]
    assert len(texts) >= num_words


async def test_who_leaves_gives_the_slot_of_the_gateway_back(gateway: Served) -> None:
    long = "word " * 900
    async with house(peer(gateway)) as peers:
        for number in range(4):  # twice as many as there are slots
            request = asked(long, id=f"r{number}")
            async with aclosing(peers.stream(request, peers.candidates(request), None)) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        break
        assert isinstance(await outcome(peers, asked()), Answer)

    async def is_idle() -> bool:
        return not (await asyncio.to_thread(gateway.health))["running"]

    await poll(is_idle)
