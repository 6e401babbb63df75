from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.config import Config, Mqtt
from edge_agent.serving.job import Draft
from edge_agent.transports.mqtt.reading import Refusal, read_request
from edge_agent.transports.mqtt.topics import Topics
from edge_agent.transports.mqtt.wire import Address, Incoming

CONFIG = Config(mqtt=Mqtt(node="gw1"))
TOPICS = Topics.of(CONFIG)
DESK = "edge/v1/gw1/response/desk"


def read(body: object, **more: Any) -> Draft | Refusal:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = Incoming(
        **{"topic": TOPICS.request, "payload": payload, "qos": 1, "packet_id": 7, **more}
    )
    return read_request(message, fresh_id="fresh", config=CONFIG, topics=TOPICS)


def draft(body: object, **more: Any) -> Draft:
    found = read(body, **more)
    assert isinstance(found, Draft)
    return found


def test_the_response_topic_of_mqtt_5_comes_before_reply_to() -> None:
    body = {"prompt": "x", "reply_to": f"{DESK}/other"}

    assert Address.decode(draft(body, response_topic=DESK).address).topic == DESK
    assert Address.decode(draft(body).address).topic == f"{DESK}/other"


def test_the_usual_topic_is_open_whatever_the_allow_list_says() -> None:
    config = Config(mqtt=Mqtt(node="gw1", reply_topics=()))
    message = Incoming(topic="t", payload=b"hi", qos=1, packet_id=1)

    found = read_request(message, fresh_id="fresh", config=config, topics=Topics.of(config))

    assert isinstance(found, Draft)
    assert Address.decode(found.address).topic == "edge/v1/gw1/response/fresh"


def test_a_repeat_is_known_by_id_before_correlation() -> None:
    body = {"prompt": "x", "id": "a"}

    assert draft(body, correlation=b"1").key == draft(body, correlation=b"2").key
    assert draft(body).key != draft({**body, "id": "b"}).key


def test_a_correlation_is_only_unique_among_its_receivers() -> None:
    body = {"prompt": "x"}

    here = draft(body, correlation=b"1", response_topic=DESK)
    there = draft(body, correlation=b"1", response_topic=f"{DESK}/2")

    assert here.key == draft(body, correlation=b"1", response_topic=DESK).key != there.key


def test_a_correlation_without_a_topic_is_known_again_under_another_fresh_id() -> None:
    message = Incoming(topic="t", payload=b"hi", qos=1, packet_id=1, correlation=b"1")

    keys = {
        found.key
        for name in ("one", "two")
        if isinstance(
            found := read_request(message, fresh_id=name, config=CONFIG, topics=TOPICS), Draft
        )
    }

    assert len(keys) == 1


def test_without_id_and_correlation_only_the_wire_knows_a_repeat() -> None:
    found = draft(b"hello", is_redelivery=True)

    assert (found.key, found.packet_id, found.is_redelivery) == (None, 7, True)


def test_at_qos_0_there_is_no_packet_id() -> None:
    assert draft(b"hello", qos=0, packet_id=0).packet_id is None


@pytest.mark.parametrize(
    ("expiry_s", "named_s", "expected_s"),
    [
        (None, None, CONFIG.journal.default_deadline_s),
        (30, None, 30.0),
        (None, 20, 20.0),
        (30, 20, 20.0),
        (10, 20, 10.0),
        (0, None, 0.0),
        (4_000_000_000, None, CONFIG.limits.max_deadline_s),
    ],
)
def test_the_nearer_deadline_counts(
    expiry_s: int | None, named_s: float | None, expected_s: float
) -> None:
    body = {"prompt": "x"} if named_s is None else {"prompt": "x", "deadline_s": named_s}

    found = draft(body, expiry_s=expiry_s)

    assert found.deadline_s == found.request.deadline_s == expected_s


def test_a_forbidden_topic_is_refused_where_we_may_publish() -> None:
    found = read({"prompt": "x"}, response_topic="homeassistant/x", correlation=b"1")

    assert isinstance(found, Refusal)
    assert found.address == Address(topic="edge/v1/gw1/response/fresh", correlation=b"1")
    assert found.error.code == "forbidden"


def test_a_long_correlation_is_refused_and_not_echoed() -> None:
    found = read({"prompt": "x"}, correlation=b"c" * 65)

    assert isinstance(found, Refusal)
    assert found.address.correlation is None


def test_requests_count_for_the_place_of_their_answers() -> None:
    def client(**more: Any) -> str:
        return draft({"prompt": "x", **more.pop("body", {})}, **more).request.client

    desk = client(response_topic=DESK)
    assert client(body={"reply_to": DESK, "id": "a"}) == desk
    assert client(body={"reply_to": f"{DESK}2"}) != desk
    assert client(body={"id": "a"}) == client(body={"id": "b"}) == "mqtt"
    far = client(response_topic=DESK + "x" * 100)
    assert far != desk
    assert len(far) < 40
