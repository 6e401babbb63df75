from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from edge_agent.serving.job import Job
from edge_agent.transports.mqtt.deltas import DeltaStream
from edge_agent.transports.mqtt.wire import Address
from tests.serving.drafts import request
from tests.serving.scripted import until

if TYPE_CHECKING:
    from edge_agent.transports.mqtt.wire import Outgoing

ADDRESS = Address(topic="here", correlation=b"c")


class Link:
    """Keeps what is offered; `slow` is a link that takes no more."""

    def __init__(self) -> None:
        self.slow = False
        self.asked = 0
        self.bodies: list[dict[str, Any]] = []

    def offer(self, out: Outgoing) -> None:
        assert out.address == ADDRESS
        self.bodies.append(json.loads(out.body))

    def is_slow(self) -> bool:
        self.asked += 1
        return self.slow

    async def was_asked(self, times: int) -> None:
        await until(lambda: self.asked >= times)

    def stream(self, interval_s: float, attempt: int = 1) -> DeltaStream:
        job = Job(
            seq=1,
            request=request("a", stream=True),
            address=ADDRESS.encode(),
            attempt=attempt,
            crashes=0,
        )
        return DeltaStream(job, interval_s=interval_s, offer=self.offer, is_congested=self.is_slow)


async def test_pieces_within_an_interval_are_one_message() -> None:
    link = Link()
    stream = link.stream(interval_s=60)

    stream.push("first")
    await until(lambda: len(link.bodies) == 1)
    for piece in (" a", " b", " c"):
        stream.push(piece)
    await asyncio.sleep(0)
    assert len(link.bodies) == 1
    count = stream.close()

    assert [body["text"] for body in link.bodies] == ["first", " a b c"]
    assert [body["seq"] for body in link.bodies] == [0, 1]
    assert count == 2


async def test_each_attempt_counts_from_zero() -> None:
    link = Link()
    for attempt in (1, 2):
        stream = link.stream(interval_s=0.001, attempt=attempt)
        stream.push("x")
        assert stream.close() == 1

    assert [(body["attempt"], body["seq"]) for body in link.bodies] == [(1, 0), (2, 0)]


async def test_a_slow_link_gets_fewer_and_longer_messages() -> None:
    link = Link()
    link.slow = True
    stream = link.stream(interval_s=0.001)

    for count, piece in enumerate("abc", start=1):
        stream.push(piece)
        await link.was_asked(count)
    assert link.bodies == []
    link.slow = False
    await until(lambda: len(link.bodies) == 1)

    assert link.bodies[0]["text"] == "abc"
    assert stream.close() == 1


async def test_an_answer_without_text_has_no_deltas() -> None:
    link = Link()

    assert link.stream(interval_s=1).close() == 0
    assert link.bodies == []
