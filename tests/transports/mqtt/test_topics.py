from __future__ import annotations

from typing import Any

import pytest

from edge_agent.config import Config, Mqtt
from edge_agent.errors import ConfigError
from edge_agent.transports.mqtt.topics import Topics


def topics(**mqtt: Any) -> Topics:
    return Topics.of(Config(mqtt=Mqtt(**{"node": "gw1", **mqtt})))


def test_topics_hang_below_the_base_with_the_node_filled_in() -> None:
    ours = topics(base_topic="site/{node}/ai")

    assert ours.request == "site/gw1/ai/request"
    assert ours.response("7") == "site/gw1/ai/response/7"


@pytest.mark.parametrize("topic", ["edge/v1/gw1/response/a", "edge/v1/gw1/response/desk/7"])
def test_replies_go_where_the_allow_list_says(topic: str) -> None:
    assert topics().may_reply_to(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "elsewhere",
        "edge/v1/gw2/response/a",
        "edge/v1/gw1/request",
        "edge/v1/gw1/response/+",
        "edge/v1/gw1/response/#",
        "edge/v1/gw1/response/a\0",
        "edge/v1/gw1/response/\ud800",
        "edge/v1/gw1/response/" + "a" * 200,
        "edge/v1/gw1/response/" + "é" * 95,
        "$SYS/x",
    ],
)
def test_replies_go_nowhere_else(topic: str) -> None:
    assert not topics().may_reply_to(topic)


@pytest.mark.parametrize(
    "topic",
    ["edge/v1/gw1/request", "edge/v1/gw1/cancel", "edge/v1/gw1/status", "homeassistant/a/config"],
)
def test_some_topics_are_never_answered_whatever_the_allow_list_says(topic: str) -> None:
    assert not topics(reply_topics=("#",)).may_reply_to(topic)


def test_an_empty_allow_list_leaves_only_the_usual_topic() -> None:
    assert not topics(reply_topics=()).may_reply_to("edge/v1/gw1/response/a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node", "a/b"),
        ("node", "a+"),
        ("base_topic", "edge/#"),
        ("base_topic", "$SYS/edge"),
        ("base_topic", "edge/"),
        ("reply_topics", ("a/#/b",)),
        ("reply_topics", ("a+/b",)),
        ("reply_topics", ("",)),
    ],
)
def test_topics_that_cannot_be_are_a_configuration_error(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"mqtt.{key}"):
        topics(**{key: value})
