from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from edge_agent.config import Config, Mqtt
from edge_agent.errors import Busy
from edge_agent.transports.mqtt import intake as intake_module
from edge_agent.transports.mqtt.drops import Drops
from edge_agent.transports.mqtt.intake import Intake
from edge_agent.transports.mqtt.topics import Topics
from edge_agent.transports.mqtt.wire import Incoming
from tests.serving.drafts import Clock
from tests.serving.scripted import house, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.serving.job import Draft, Taken
    from edge_agent.serving.jobs import Jobs
    from edge_agent.transports.mqtt.connection import Connection
    from edge_agent.transports.mqtt.wire import Outgoing

CONFIG = Config(mqtt=Mqtt(node="gw1"))
TOPICS = Topics.of(CONFIG)


class NotingConnection:
    """Keeps what the intake does to it, in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.in_line = 0
        self.is_reading = True

    def acknowledge(self, message: Incoming) -> None:
        self.notes.append(f"ack {message.packet_id}")

    def post(self, out: Outgoing) -> None:
        body = json.loads(out.body)
        self.notes.append(f"{body['type']} {body['id']}")

    def pause(self) -> None:
        self.is_reading = False

    def resume(self) -> None:
        self.is_reading = True


class SlowJobs:
    """Takes requests when told to."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.gate = asyncio.Event()
        self.problem: Exception | None = None
        self.expected_wait_s = jobs.expected_wait_s

    async def submit(self, draft: Draft) -> tuple[Taken, int]:
        await self.gate.wait()
        if self.problem:
            raise self.problem
        return await self.jobs.submit(draft)

    async def cancel(self, *args: Any, **named: Any) -> bool:
        return await self.jobs.cancel(*args, **named)


class Door:
    """An intake at work between doubles."""

    def __init__(self, jobs: SlowJobs) -> None:
        self.jobs = jobs
        self.drops = Drops()
        self.connection = NotingConnection()
        self.intake = Intake(CONFIG, TOPICS, cast("Jobs", jobs), self.drops)

    def request(self, packet_id: int, text: str | None = None, **more: Any) -> None:
        body = {"prompt": "x", "id": f"n{packet_id}"} if text is None else None
        payload = (text or json.dumps(body)).encode()
        message = Incoming(
            **{
                "topic": TOPICS.request,
                "payload": payload,
                "qos": 1,
                "packet_id": packet_id,
                **more,
            }
        )
        self.intake.put(message)


@asynccontextmanager
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with house(tmp_path, Clock()) as h:
        door = Door(SlowJobs(h.jobs))
        task = asyncio.create_task(door.intake.run(cast("Connection", door.connection)))
        try:
            await asyncio.sleep(0)
            yield door
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_message_is_acknowledged_after_the_commit_and_in_order(tmp_path: Path) -> None:
    async with door(tmp_path) as d:
        for packet_id in (5, 6, 7):
            d.request(packet_id)
        for _ in range(20):
            await asyncio.sleep(0)
        assert d.connection.notes == []

        d.jobs.gate.set()
        await until(lambda: len(d.connection.notes) == 6)

    assert d.connection.notes == [
        "ack 5",
        "accepted n5",
        "ack 6",
        "accepted n6",
        "ack 7",
        "accepted n7",
    ]


async def test_a_disk_that_fails_is_a_busy_error_and_an_acknowledgement(tmp_path: Path) -> None:
    async with door(tmp_path) as d:
        d.jobs.problem = Busy("the journal cannot be written", 5)
        d.jobs.gate.set()
        d.request(5)
        await until(lambda: len(d.connection.notes) == 2)

    assert d.connection.notes == ["ack 5", "error n5"]


async def test_a_redelivery_without_id_is_the_same_job_under_its_first_id(tmp_path: Path) -> None:
    async with door(tmp_path) as d:
        d.jobs.gate.set()
        d.request(5, "hello")
        await until(lambda: len(d.connection.notes) == 2)
        d.request(5, "hello", is_redelivery=True)
        await until(lambda: len(d.connection.notes) == 4)

    assert d.connection.notes[:2] == d.connection.notes[2:]
    assert d.jobs.jobs.open == 1


@pytest.mark.parametrize("limit", ["PAUSE_AT_MESSAGES", "PAUSE_AT_BYTES"])
async def test_the_socket_is_left_alone_while_too_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(intake_module, "RESUME_AT_MESSAGES", 1)
    monkeypatch.setattr(intake_module, limit, 3 if limit == "PAUSE_AT_MESSAGES" else 100)
    async with door(tmp_path) as d:
        for packet_id in range(6):
            d.request(packet_id)
        assert not d.connection.is_reading

        d.jobs.gate.set()
        await until(lambda: len(d.connection.notes) == 12)

    assert d.connection.is_reading


async def test_a_broker_that_confirms_nothing_still_gets_its_requests_taken(
    tmp_path: Path,
) -> None:
    async with door(tmp_path) as d:
        d.jobs.gate.set()
        d.connection.in_line = intake_module.MOST_REPLIES
        d.request(5)
        await until(lambda: d.drops.counts["reply"] == 1)

    assert d.connection.notes == ["ack 5"]
    assert d.jobs.jobs.open == 1


async def test_a_message_on_another_topic_is_counted_and_acknowledged(tmp_path: Path) -> None:
    async with door(tmp_path) as d:
        d.request(5, topic="somewhere/else")
        await until(lambda: d.connection.notes == ["ack 5"])

    assert dict(d.drops.counts) == {"topic": 1}
