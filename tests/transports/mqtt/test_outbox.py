from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from edge_agent.errors import Busy
from edge_agent.transports.mqtt import outbox as outbox_module
from edge_agent.transports.mqtt.drops import Drops
from edge_agent.transports.mqtt.outbox import Outbox
from edge_agent.transports.mqtt.wire import Address
from tests.serving.drafts import Clock, draft
from tests.serving.scripted import House, house, poll, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from edge_agent.transports.mqtt.connection import Connection
    from edge_agent.transports.mqtt.window import Confirmation
    from edge_agent.transports.mqtt.wire import Outgoing

ADDRESS = Address(topic="here").encode()
NOT_AUTHORIZED = 0x87


class Broker:
    """Confirms with `reason` what it is sent; holds confirmations back while it is `slow`."""

    def __init__(self) -> None:
        self.reason: int | None = 0
        self.slow = False
        self.is_lost = False
        self.sent: list[str] = []
        self.held: list[Confirmation] = []

    @property
    def in_line(self) -> int:
        return max(0, len(self.held) - 20)

    def send(self, out: Outgoing) -> Confirmation:
        self.sent.append(json.loads(out.body)["id"])
        confirmation: Confirmation = asyncio.get_running_loop().create_future()
        if self.slow:
            self.held.append(confirmation)
        else:
            confirmation.set_result(self.reason)
        return confirmation

    async def idle(self) -> None:
        while waiting := [future for future in self.held if not future.done()]:
            await asyncio.wait(waiting)

    def confirm_all(self) -> None:
        for confirmation in self.held:
            confirmation.set_result(self.reason)
        self.held.clear()
        self.slow = False


class Post:
    """An outbox at work on the results of a real job queue."""

    def __init__(self, h: House, limit_bytes: int) -> None:
        self.house = h
        self.broker = Broker()
        self.drops = Drops()
        self.limit_bytes = limit_bytes
        self.outbox = self._new()

    def _new(self) -> Outbox:
        connection = cast("Connection", self.broker)
        return Outbox(self.house.jobs, self.drops, connection, self.limit_bytes)

    async def answer(self, *names: str) -> None:
        """Have results of these names waiting."""
        for name in names:
            await self.house.jobs.submit(draft(name, name, address=ADDRESS))
        await until(lambda: self.house.jobs.open == 0)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        self.outbox = self._new()
        tasks = [
            asyncio.create_task(work)
            for work in (self.outbox.send_all(), self.outbox.note_confirmed())
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def unconfirmed(self) -> list[str]:
        return [result.id for result in await self.house.journal.outbox(999, ())]

    async def is_empty(self) -> bool:
        return not await self.unconfirmed()


@asynccontextmanager
async def post(tmp_path: Path, limit_bytes: int = 100_000) -> AsyncIterator[Post]:
    async with house(tmp_path, Clock()) as h:
        await h.jobs.start()
        yield Post(h, limit_bytes)


async def test_results_are_sent_once_and_marked_when_confirmed(tmp_path: Path) -> None:
    async with post(tmp_path) as p:
        await p.answer("a", "b")
        async with p.connected():
            await poll(p.is_empty)

        assert sorted(p.broker.sent) == ["a", "b"]


async def test_news_of_a_result_sends_it(tmp_path: Path) -> None:
    async with post(tmp_path) as p, p.connected():
        await p.answer("a")
        p.outbox.result_ready(1)
        await poll(p.is_empty)

        assert p.broker.sent == ["a"]


async def test_a_result_asked_for_again_is_sent_again_even_if_it_is_on_the_wire(
    tmp_path: Path,
) -> None:
    async with post(tmp_path) as p:
        await p.answer("a")
        p.broker.slow = True
        async with p.connected():
            await until(lambda: p.broker.sent == ["a"])
            p.outbox.result_ready(1)
            await until(lambda: p.broker.sent == ["a", "a"])


async def test_a_connection_that_ends_before_puback_leaves_the_result_for_the_next(
    tmp_path: Path,
) -> None:
    async with post(tmp_path) as p:
        await p.answer("a")
        p.broker.reason = None
        async with p.connected():
            await until(lambda: p.broker.sent == ["a"])
            await p.outbox.empty()
        assert await p.unconfirmed() == ["a"]

        p.broker.reason = 0
        async with p.connected():
            await poll(p.is_empty)

        assert p.broker.sent == ["a", "a"]


async def test_a_broker_that_refuses_one_result_gets_the_others(tmp_path: Path) -> None:
    async with post(tmp_path) as p:
        p.broker.reason = NOT_AUTHORIZED
        await p.answer("a")
        async with p.connected():
            await until(lambda: p.drops.counts["refused_0x87"] == 1)
            p.broker.reason = 0
            await p.answer("b")
            p.outbox.result_ready(2)
            await p.outbox.empty()

        assert p.broker.sent == ["a", "b"]
        assert await p.unconfirmed() == ["a"]


async def test_a_result_too_large_for_this_broker_becomes_an_error_that_fits(
    tmp_path: Path,
) -> None:
    async with post(tmp_path, limit_bytes=400) as p:
        await p.answer("x" * 100)
        async with p.connected():
            await poll(p.is_empty)

        [row] = p.house.outlet.ready
        assert row == 1
        assert p.broker.sent == ["x" * 100]
    async with house(tmp_path, Clock()) as h:
        taken = await h.journal.accept(draft("x" * 100, "x" * 100, address=ADDRESS))
        [result] = await h.journal.outbox(1, ())
    assert taken.is_done
    assert json.loads(result.body)["code"] == "result_too_large"


async def test_a_message_that_can_never_fit_is_counted_and_does_not_block(tmp_path: Path) -> None:
    async with post(tmp_path, limit_bytes=100) as p:
        await p.answer("a")
        async with p.connected():
            await until(lambda: p.drops.counts["result_too_large"] == 1)
            await p.outbox.empty()

        assert p.broker.sent == []
        assert await p.unconfirmed() == ["a"]


async def test_a_disk_that_cannot_be_read_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "AGAIN_S", 0.01)
    async with post(tmp_path) as p:
        await p.answer("a")
        read, failures = p.house.jobs.outbox, 3

        async def outbox(most: int, skip: set[int]) -> object:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                reason = "the journal cannot be written"
                raise Busy(reason, 5)
            return await read(most, skip)

        monkeypatch.setattr(p.house.jobs, "outbox", outbox)
        async with p.connected():
            await poll(p.is_empty)

        assert p.broker.sent == ["a"]


async def test_many_results_are_read_as_they_are_confirmed(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(100)]
    async with post(tmp_path) as p:
        await p.answer(*names)
        p.broker.slow = True
        async with p.connected():
            await until(lambda: p.broker.in_line > 0)
            assert len(p.broker.sent) <= 2 * outbox_module.BATCH
            p.broker.confirm_all()
            await poll(p.is_empty)

        assert sorted(p.broker.sent) == sorted(names)
