"""Bad input: exactly one error or one counted drop each, and a daemon that goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.mqtt.house import BASE, CANCEL, REQUEST, config_for, mqtt_house
from tests.serving.scripted import ScriptedBackend, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker import LocalBroker
    from tests.requester import Requester

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
WHERE = f"{BASE}/response/desk"


@dataclass(frozen=True)
class Bad:
    """A request that must be refused."""

    body: object
    code: str
    param: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    topic: str | None = None


BAD = {
    "no JSON": Bad(b"{not json", "invalid_request"),
    "not UTF-8": Bad(b"\xff\xfe prompt", "invalid_request"),
    "not UTF-8 in JSON": Bad(b'{"prompt": "\xff"}', "invalid_request"),
    "nothing": Bad(b"", "invalid_request"),
    "spaces": Bad(b"   \n", "invalid_request"),
    "an empty object": Bad({}, "invalid_request", "messages"),
    "JSON declared, text sent": Bad(
        b"hello", "invalid_request", properties={"ContentType": "application/json"}
    ),
    "a number for a prompt": Bad({"prompt": 5}, "invalid_request", "prompt"),
    "no messages": Bad({"messages": []}, "invalid_request", "messages"),
    "an id that is a number": Bad({"prompt": "x", "id": 7}, "invalid_request", "id"),
    "an id that is a wildcard": Bad({"prompt": "x", "id": "a/#"}, "invalid_request", "id"),
    "a very long id": Bad({"prompt": "x", "id": "i" * 200}, "too_large", "id"),
    "a negative deadline": Bad({"prompt": "x", "deadline_s": -1}, "invalid_request", "deadline_s"),
    "a huge number": Bad({"prompt": "x", "seed": 1 << 70}, "invalid_request", "seed"),
    "deep JSON": Bad(b'{"a":' * 2000 + b"1" + b"}" * 2000, "invalid_request"),
    "duplicate keys, the last one bad": Bad(
        b'{"prompt": "x", "prompt": 1}', "invalid_request", "prompt"
    ),
    "a payload over the limit": Bad(b"x" * (2 << 20), "too_large", "payload"),
    "a long correlation": Bad(
        {"prompt": "x"}, "too_large", "correlation data", {"CorrelationData": b"c" * 6400}
    ),
    "many user properties": Bad(
        {"prompt": "x"}, "too_large", "user properties", {"UserProperty": [("k", "v")] * 50}
    ),
    "large user properties": Bad(
        {"prompt": "x"}, "too_large", "user properties", {"UserProperty": [("k", "v" * 60_000)] * 5}
    ),
    "a stream that is neither": Bad(
        {"prompt": "x"}, "invalid_request", "stream", {"UserProperty": [("stream", "yes")]}
    ),
    "a reply topic of somebody else": Bad(
        {"prompt": "x", "id": "a", "reply_to": "homeassistant/x/config"},
        "forbidden",
        "reply_to",
        topic=f"{BASE}/response/a",
    ),
    "a reply topic that is our own request": Bad(
        {"prompt": "x", "id": "a", "reply_to": REQUEST},
        "forbidden",
        "reply_to",
        topic=f"{BASE}/response/a",
    ),
    "a reply topic with a wildcard": Bad(
        {"prompt": "x", "id": "a", "reply_to": f"{BASE}/response/+"},
        "forbidden",
        "reply_to",
        topic=f"{BASE}/response/a",
    ),
    "a reply topic of 300 bytes": Bad(
        {"prompt": "x", "id": "a", "reply_to": f"{BASE}/response/{'r' * 300}"},
        "forbidden",
        "reply_to",
        topic=f"{BASE}/response/a",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_request_gets_exactly_one_error_and_runs_nothing(
    broker: LocalBroker, requester: Requester, tmp_path: Path, bad: Bad
) -> None:
    backend = ScriptedBackend()
    properties = dict(bad.properties)
    if bad.topic is None:
        properties["ResponseTopic"] = WHERE
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend):
        await asyncio.to_thread(requester.send, REQUEST, bad.body, **properties)
        [error] = await asyncio.to_thread(requester.hear, 1, type="error")
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "next"})
        await asyncio.to_thread(requester.hear, 1, type="result", id="next")

    assert error.body["code"] == bad.code
    assert bad.param in {None, error.body.get("param")}
    assert error.topic == (bad.topic or WHERE)
    assert error.body["retryable"] is False
    assert len(requester.heard(type="error")) == 1
    assert backend.started == ["next"]


async def test_a_retained_request_is_counted_and_not_run(
    broker: LocalBroker, requester: Requester, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "old"}, retain=True)
    async with mqtt_house(config_for(broker.url), tmp_path / "home", backend) as house:
        await until(lambda: house.client.drops.counts["retained"] == 1)
        await asyncio.to_thread(requester.send, REQUEST, {**CHAT, "id": "next"})
        await asyncio.to_thread(requester.hear, 1, type="result", id="next")

    assert backend.started == ["next"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{bad", "cancel_malformed"),
        (b"", "cancel_malformed"),
        (b"a/#", "cancel_malformed"),
        (b'{"id": 5}', "cancel_malformed"),
        (b'{"id": "nobody"}', "cancel_unknown"),
        (b"nobody", "cancel_unknown"),
    ],
)
async def test_a_cancel_that_names_no_open_request_is_counted(
    broker: LocalBroker, requester: Requester, tmp_path: Path, body: bytes, reason: str
) -> None:
    async with mqtt_house(config_for(broker.url), tmp_path / "home") as house:
        await asyncio.to_thread(requester.send, CANCEL, body)
        await until(lambda: house.client.drops.counts.total() == 1)

    assert dict(house.client.drops.counts) == {reason: 1}
