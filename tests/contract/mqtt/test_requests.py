"""The wire contract as a client sees it, through a real broker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from edge_agent.messages import Done, FinishReason, Priority, ToolCall
from tests.contract.mqtt.house import BASE, CANCEL, REQUEST, config_for, mqtt_house
from tests.serving.scripted import ScriptedBackend, answer, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker import LocalBroker
    from tests.requester import Requester

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


async def test_a_chat_body_is_accepted_and_answered(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        accepted, result = await asyncio.to_thread(requester.hear, 2, id="a")

    assert accepted.body == {"type": "accepted", "id": "a", "attempt": 1, "pos": 0}
    assert accepted.topic == result.topic == f"{BASE}/response/a"
    assert result.qos == 1
    assert result.body["text"] == "HELLO"
    assert result.body["finish_reason"] == "stop"
    assert result.body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert result.body["served_by"] == "local"


async def test_properties_say_what_plain_text_cannot(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    said = [("id", "a"), ("keep_alive", "5m"), ("priority", "low")]
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, b"hello", UserProperty=said)
        await asyncio.to_thread(requester.hear, 2, id="a")

    [asked] = backend.requests
    assert (asked.keep_alive_s, asked.priority) == (300, Priority.LOW)


async def test_a_result_carries_the_calls_of_an_answer(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    call = ToolCall(id="c1", name="now", arguments='{"zone": "UTC"}')
    *before, done = answer("One moment.")
    assert isinstance(done, Done)
    done = replace(done, finish_reason=FinishReason.TOOL_CALLS)
    backend = ScriptedBackend()
    backend.scripts["hello"] = [[*before, call, done]]
    tools = [{"type": "function", "function": {"name": "now"}}]
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "tools": tools, "stream": True})
        [result] = await asyncio.to_thread(requester.hear, 1, type="result")

    assert result.body["text"] == "One moment."
    assert result.body["finish_reason"] == "tool_calls"
    assert result.body["tool_calls"] == [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "now", "arguments": '{"zone": "UTC"}'},
        }
    ]


async def test_plain_text_is_a_prompt_and_gets_an_id_of_ours(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(requester.send, REQUEST, "guten tag")
        [result] = await asyncio.to_thread(requester.hear, 1, type="result")

    assert result.body["text"] == "GUTEN TAG"
    assert result.topic == f"{BASE}/response/{result.body['id']}"


async def test_a_response_topic_gets_the_answer_with_its_correlation(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    where = f"{BASE}/response/desk/7"
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(
            requester.send, REQUEST, CHAT, ResponseTopic=where, CorrelationData=b"\x00\xff7"
        )
        [result] = await asyncio.to_thread(requester.hear, 1, type="result")
        [accepted] = requester.heard(type="accepted")

    assert (accepted.topic, accepted.correlation) == (where, b"\x00\xff7")
    assert (result.topic, result.correlation) == (where, b"\x00\xff7")


async def test_deltas_count_from_zero_and_join_to_the_result(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    pieces = ["one ", "two ", "three ", "four 👋"]
    backend.scripts["hello"] = [answer(*pieces)]
    config = config_for(broker.url, delta_interval_s=0.01)
    async with mqtt_house(config, tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a", "stream": True})
        [result] = await asyncio.to_thread(requester.hear, 1, type="result")
        deltas = requester.heard(type="delta")

    assert [delta.body["seq"] for delta in deltas] == list(range(len(deltas)))
    assert result.body["seq"] == len(deltas) > 0
    assert "".join(delta.body["text"] for delta in deltas) == result.body["text"] == "".join(pieces)


async def test_without_stream_there_are_no_deltas(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await asyncio.to_thread(requester.hear, 1, type="result")

    assert requester.heard(type="delta") == []


async def test_a_repeated_id_gets_the_same_bytes_and_not_a_second_run(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await asyncio.to_thread(requester.hear, 1, type="result")
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        first, second = await asyncio.to_thread(requester.hear, 2, type="result")

    assert first.raw == second.raw
    assert backend.started == ["a"]


async def test_the_same_id_with_another_payload_is_a_conflict(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a"})
        await asyncio.to_thread(requester.send, REQUEST, {"prompt": "other", "id": "a"})
        [error] = await asyncio.to_thread(requester.hear, 1, type="error")

    assert error.body["code"] == "idempotency_conflict"


@pytest.mark.parametrize("by", ["id", "correlation"])
async def test_a_running_request_can_be_cancelled(
    broker: LocalBroker, requester: Requester, tmp_path: Path, by: str
) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend):
        await asyncio.to_thread(
            requester.send, REQUEST, {**CHAT, "id": "a"}, CorrelationData=b"mine"
        )
        await until(lambda: backend.started == ["a"])
        if by == "id":
            await asyncio.to_thread(requester.send, CANCEL, {"id": "a"})
        else:
            await asyncio.to_thread(requester.send, CANCEL, b"", CorrelationData=b"mine")
        [error] = await asyncio.to_thread(requester.hear, 1, type="error")

    assert error.body["code"] == "cancelled"
    assert backend.closed == ["a"]


async def test_a_deadline_that_passes_in_the_queue_is_an_expired_error(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend) as house:
        house.jobs._is_draining = True  # nothing starts: the request waits
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "a", "deadline_s": 0.3})
        [error] = await asyncio.to_thread(requester.hear, 1, type="error")

    assert (error.body["code"], error.body["param"]) == ("expired", "deadline_s")
    assert backend.started == []


async def test_qos_0_is_answered_and_qos_2_is_as_good_as_1(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        await asyncio.to_thread(requester.send, REQUEST, {"prompt": "x", "id": "zero"}, qos=0)
        await asyncio.to_thread(requester.send, REQUEST, {"prompt": "x", "id": "two"}, qos=2)
        await asyncio.to_thread(requester.hear, 1, type="result", id="zero")
        await asyncio.to_thread(requester.hear, 1, type="result", id="two")

    assert len(requester.heard(type="result")) == 2


async def test_status_and_info_are_retained_and_say_when_we_stop(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home"):
        [online] = await asyncio.to_thread(requester.hear, 1, state="online")
        [info] = await asyncio.to_thread(requester.hear, 1, name="edge-agent")
    [stopped] = await asyncio.to_thread(requester.hear, 1, state="stopped")

    assert online.topic == stopped.topic == f"{BASE}/status"
    assert online.body["epoch"] == stopped.body["epoch"]
    assert online.body["durability"] == "full"
    assert info.body["topics"]["request"] == REQUEST
    assert "password" not in json.dumps(info.body)


async def test_a_result_larger_than_the_limit_is_an_error_and_no_disconnect(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    backend.scripts["hello"] = [answer("x" * 9000)]
    config = config_for(broker.url, max_packet_bytes=4096)
    async with mqtt_house(config, tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "big"})
        await asyncio.to_thread(requester.send, REQUEST, {"prompt": "x", "id": "small"})
        [error] = await asyncio.to_thread(requester.hear, 1, id="big", type="error")
        await asyncio.to_thread(requester.hear, 1, id="small", type="result")

    assert error.body["code"] == "result_too_large"
    assert len(requester.heard(state="online")) >= 1
