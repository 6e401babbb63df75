"""What happens when the wire is cut, the broker dies, or speaks an older version."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.serving.journal_file import JournalFile
from edge_agent.transports.mqtt import client as client_module
from tests.contract.mqtt.house import BASE, REQUEST, config_for, mqtt_house
from tests.proxy import Proxy
from tests.serving.scripted import ScriptedBackend, until

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.serving.job import Draft, Taken
    from tests.broker import LocalBroker
    from tests.requester import Requester

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(client_module, "LONGEST_WAIT_S", 0.1)


async def test_a_broker_that_dies_is_found_again_with_subscriptions_and_status(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home") as house:
        await asyncio.to_thread(requester.hear, 1, state="online")
        broker.kill()
        await until(lambda: house.client.state == "disconnected")
        await asyncio.to_thread(broker.start)
        await house.connected()
        await asyncio.to_thread(requester.resubscribed, 2)
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await asyncio.to_thread(requester.hear, 1, id="a", type="result")
        await asyncio.to_thread(requester.hear, 2, state="online")


async def test_the_daemon_starts_and_stops_without_a_broker(
    broker: LocalBroker, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home") as house:
        broker.kill()
        await until(lambda: house.client.state == "disconnected")


async def test_a_result_that_was_ready_while_the_wire_was_cut_is_delivered(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    async with (
        Proxy(broker.port) as proxy,
        mqtt_house(config_for(proxy.url), tmp_path / "home", backend) as house,
    ):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await until(lambda: backend.started == ["a"])
        await proxy.down()
        await until(lambda: house.client.state == "disconnected")
        backend.gate.set()
        await until(lambda: house.jobs.open == 0)
        await proxy.up()
        [result] = await asyncio.to_thread(requester.hear, 1, type="result")

    assert result.body["text"] == "HELLO"


async def test_the_next_daemon_delivers_what_the_last_one_could_not(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    async with Proxy(broker.port) as proxy:
        async with mqtt_house(config_for(proxy.url), tmp_path / "home", backend) as house:
            await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "done"})
            await until(lambda: backend.started == ["done"])
            await asyncio.to_thread(requester.send, REQUEST, {"prompt": "late", "id": "open"})
            await asyncio.to_thread(requester.hear, 1, id="open", type="accepted")
            await proxy.down()
            backend.gate.set()
            await until(lambda: house.jobs.open == 0)
        assert requester.heard(type="result") == []
        await proxy.up()
        async with mqtt_house(config_for(proxy.url), tmp_path / "home", backend):
            await asyncio.to_thread(requester.hear, 1, id="done", type="result")
            await asyncio.to_thread(requester.hear, 1, id="open", type="result")

    assert sorted(backend.started) == ["done", "open"]


async def test_requests_sent_while_the_daemon_restarts_wait_at_the_broker(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    config = config_for(broker.url)
    async with mqtt_house(config, tmp_path / "home"):
        pass
    for number in range(20):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": f"n{number}"})
    async with mqtt_house(config, tmp_path / "home"):
        results = await asyncio.to_thread(requester.hear, 20, type="result")

    assert {result.body["id"] for result in results} == {f"n{number}" for number in range(20)}


async def test_a_request_is_the_brokers_until_it_is_on_disk(
    broker: LocalBroker, requester: Requester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wire is cut during the commit: the broker sends again, and it runs once."""
    writing, may_go_on = threading.Event(), threading.Event()
    accept = JournalFile.accept
    tries: list[str] = []

    def slow(file: JournalFile, draft: Draft) -> Taken:
        tries.append(draft.request.id)
        writing.set()
        assert may_go_on.wait(20)
        return accept(file, draft)

    monkeypatch.setattr(JournalFile, "accept", slow)
    backend = ScriptedBackend()
    async with (
        Proxy(broker.port) as proxy,
        mqtt_house(config_for(proxy.url), tmp_path / "home", backend) as house,
    ):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await asyncio.to_thread(writing.wait, 20)
        await proxy.down()
        await until(lambda: house.client.state == "disconnected")
        may_go_on.set()
        await proxy.up()
        await house.connected()
        await asyncio.to_thread(requester.hear, 1, type="result")
        await until(lambda: len(tries) == 2)

    assert tries == ["a", "a"]
    assert backend.started == ["a"]


@pytest.mark.parametrize("doorman", [{"refuses_v5": True}, {"hangs_up_on_v5": True}])
async def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(
    v4_broker: LocalBroker, tmp_path: Path, doorman: dict[str, Any], v4_requester: Requester
) -> None:
    async with (
        Proxy(v4_broker.port, **doorman) as proxy,
        mqtt_house(config_for(proxy.url), tmp_path / "home"),
    ):
        await asyncio.to_thread(v4_requester.send, REQUEST, {**CHAT, "id": "a", "stream": True})
        [result] = await asyncio.to_thread(v4_requester.hear, 1, type="result")
        where = f"{BASE}/response/desk"
        body = {**CHAT, "id": "b", "reply_to": where}
        await asyncio.to_thread(v4_requester.send, REQUEST, body)
        [elsewhere] = await asyncio.to_thread(v4_requester.hear, 1, id="b", type="result")

    assert proxy.versions[0] == 5
    assert proxy.versions[-1] == 4
    assert result.topic == f"{BASE}/response/a"
    assert elsewhere.topic == where


async def test_a_daemon_that_dies_leaves_its_will_with_its_epoch(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    config = config_for(broker.url, will_delay_s=0, session_expiry_s=0)
    async with Proxy(broker.port) as proxy:
        config = config_for(proxy.url, will_delay_s=0, session_expiry_s=0)
        async with mqtt_house(config, tmp_path / "home"):
            [online] = await asyncio.to_thread(requester.hear, 1, state="online")
            await proxy.down()
            [offline] = await asyncio.to_thread(requester.hear, 1, state="offline")

    assert offline.body == {"state": "offline", "epoch": online.body["epoch"]}
    assert offline.topic == f"{BASE}/status"


async def test_many_results_leave_in_a_bounded_window(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    """A hundred results that waited for the broker arrive, each once."""
    backend = ScriptedBackend()
    names = {f"n{number}" for number in range(100)}
    async with Proxy(broker.port) as proxy:
        config = config_for(proxy.url)
        async with mqtt_house(config, tmp_path / "home", backend) as house:
            backend.gate.clear()
            for name in sorted(names):
                await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": name})
            await asyncio.to_thread(requester.hear, 100, type="accepted")
            await proxy.down()
            backend.gate.set()
            await until(lambda: house.jobs.open == 0)
            await proxy.up()
            results = await asyncio.to_thread(requester.hear, 100, type="result")

    assert {result.body["id"] for result in results} == names
    assert len(requester.heard(type="result")) == 100
