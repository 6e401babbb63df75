"""How long the model shall stay: numbers, Go's durations, and what is neither."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Limits
from edge_agent.dialects.body import Fields
from edge_agent.dialects.keep_alive import FOREVER_S, MOST_S, keep_alive_s
from edge_agent.dialects.openai import parse_chat
from edge_agent.dialects.slm import parse_reasoning
from edge_agent.errors import InvalidRequest
from tests.dialects.test_body import json_values


def read(value: object) -> float | None:
    return keep_alive_s(Fields({"keep_alive": value}))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (300, 300.0),
        (1.5, 1.5),
        (-1, FOREVER_S),
        (-1e300, FOREVER_S),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("+1.5s", 1.5),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("0", 0.0),
        ("0s", 0.0),
        ("-1m", FOREVER_S),
        ("-9999h", FOREVER_S),
        ("168h", MOST_S),
    ],
)
def test_seconds_and_durations_are_understood(value: object, seconds: float | None) -> None:
    assert read(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "-1",
        "m",
        "5 m",
        "5m!",
        "--5m",
        "1h 30m",
        "5x",
        "169h",
        "1" * 33,
        MOST_S + 1,
        True,
        {},
    ],
)
def test_all_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(value)
    assert caught.value.param == "keep_alive"


@given(json_values | st.text("0123456789.+-hmsnuµ", max_size=12))
def test_whatever_comes_is_bounded_or_refused(value: object) -> None:
    with suppress(InvalidRequest):
        seconds = read(value)
        assert seconds is None or seconds == FOREVER_S or 0 <= seconds <= MOST_S


def test_every_dialect_takes_it() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "keep_alive": "5m"}
    task = {"prompt": "hi", "keep_alive": 0}

    call = parse_chat(chat, request_id="r", limits=Limits())
    assert call.request.keep_alive_s == 300.0
    assert parse_reasoning(task, request_id="r", limits=Limits()).keep_alive_s == 0.0
