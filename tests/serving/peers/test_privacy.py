"""Prompts that must not leave the site do not, whatever goes wrong there: not one byte."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import pytest

from edge_agent.messages import (
    Failed,
    Message,
    NamedTool,
    Policy,
    Request,
    Role,
    Sampling,
    Tool,
    ToolMode,
)
from edge_agent.serving.peers import peers as peers_module
from edge_agent.serving.peers.breaker import LONGEST_HOLD_S
from tests.serving.peers.double import Double, Fault
from tests.serving.peers.house import house, outcome, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUESTS_A_LANE = 10_000
QUICK_REQUESTS = 1_000
# So many at once: the order in which peers fail and recover is another each time.
AT_ONCE = 5
FAULTS = [
    Fault(),
    Fault(die_after=0),
    Fault(die_after=1),
    Fault(die_after=3),
    Fault(freeze_after=0),
    Fault(freeze_after=3),
    Fault(status=503),
    Fault(status=429, headers={"Retry-After": "0"}),
    Fault(status=500, body=b'{"error": "boom"}'),
    Fault(status=400, body=b"{}"),
    Fault(status=404),
    Fault(body=b"<html>", media_type="text/html"),
    Fault(cut_at_byte=200),
    Fault(is_endless=True),
    Fault(pieces=[b"data: {\n\n"]),
]
TOOLS = (Tool(name="light"),)


class Sink:
    """Stands where the cloud peer is configured, and counts what reaches it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.received = bytearray()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Take connections for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            await asyncio.gather(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        self.connections += 1
        while data := await reader.read(65536):
            self.received += data
        writer.close()
        await writer.wait_closed()


def fuzzed(dice: random.Random, number: int) -> Request:
    """Return some request that may not leave the site."""
    fields: dict[str, Any] = {}
    if dice.random() < 0.3:
        choices = [ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED, NamedTool("light")]
        fields |= {"tools": TOOLS, "tool_choice": dice.choice(choices)}
        fields["parallel_tool_calls"] = dice.random() < 0.5
    if dice.random() < 0.5:
        fields["sampling"] = Sampling(
            temperature=dice.choice([None, 0.0, 1.5]),
            top_k=dice.choice([None, 0, 40]),
            min_p=dice.choice([None, 0.1]),
            seed=dice.choice([None, dice.getrandbits(64)]),
        )
    words = "".join(map(chr, dice.choices(range(32, 0x2000), k=dice.randrange(60))))
    return Request(
        id=f"r{number}",
        messages=(Message(role=Role.USER, content=f"SECRET {words}"),),
        # None is the default of the house, which is `site`.
        policy=dice.choice([None, Policy.SITE, Policy.SITE, Policy.LOCAL]),
        max_tokens=dice.choice([None, 1, 50]),
        stop=dice.choice([(), ("END",)]),
        hops=dice.choice([0, 0, 1]),
        stream=dice.random() < 0.5,
        **fields,
    )


def someone_s_redirect(fault: Fault, sink: Sink) -> list[Fault]:
    """Return `fault`, and one that wants us to go to the sink instead."""
    location = {"Location": f"{sink.url}/v1/chat/completions"}
    return [fault, replace(fault, status=307, body=b"", headers=location)]


async def no_byte_leaves(num_requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(peers_module, "FIRST_PROBE_WITHIN_S", 0.01)
    dice = random.Random(4)  # noqa: S311  # no secret
    now_s = 0.0
    async with Sink().listening() as sink, Double("openai") as near, Double("ollama") as attic:
        faults = [other for fault in FAULTS for other in someone_s_redirect(fault, sink)]
        near.faults = attic.faults = lambda _: dice.choice(faults)
        limits: dict[str, Any] = {"first_byte_timeout_s": 0.05, "idle_timeout_s": 0.05}
        async with house(
            settings(sink.url, zone="cloud", name="far", priority=9),
            settings(near.url, name="near", **limits),
            settings(attic.url, "ollama", name="attic", **limits),
            # Time goes by fast for breakers, so that they open and close all the time.
            clock=lambda: now_s,
        ) as peers:
            watching = asyncio.create_task(peers.run())
            for first in range(0, num_requests, AT_ONCE):
                now_s += dice.expovariate(1 / LONGEST_HOLD_S)
                asked = [fuzzed(dice, number) for number in range(first, first + AT_ONCE)]
                answers = await asyncio.gather(*(outcome(peers, each) for each in asked))
                for request, answer in zip(asked, answers, strict=True):
                    if request.policy is Policy.LOCAL:
                        assert isinstance(answer, Failed)
                    assert isinstance(answer, Failed) or answer.served_by != "far"
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        asked_near = len(near.bodies) + len(attic.bodies)
        assert asked_near > num_requests / 10  # or nothing was tested
    assert sink.connections == 0
    assert not sink.received


async def test_no_byte_of_the_site_reaches_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    await no_byte_leaves(QUICK_REQUESTS, monkeypatch)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_no_byte_of_many_requests_reaches_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    await no_byte_leaves(REQUESTS_A_LANE, monkeypatch)


async def test_the_sink_would_tell() -> None:
    """The same house with a prompt that may go: the sink hears of it."""
    secret = (Message(role=Role.USER, content="SECRET"),)
    limits: dict[str, Any] = {"first_byte_timeout_s": 0.2}
    async with (
        Sink().listening() as sink,
        house(settings(sink.url, zone="cloud", **limits)) as peers,
    ):
        await outcome(peers, Request(id="r1", messages=secret, policy=Policy.ANY))
    assert b"SECRET" in sink.received
