from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.config import Limits
from edge_agent.dialects import envelope
from edge_agent.dialects.envelope import cancelled_id, open_envelope
from edge_agent.dialects.openai_tokens import logprobs_body
from edge_agent.errors import InvalidRequest, Overloaded, PromptTooLong
from edge_agent.messages import (
    Answer,
    Done,
    Failed,
    FinishReason,
    Message,
    Role,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
)

LIMITS = Limits()
ANSWER = Answer(
    text="Grüße 👋",
    done=Done(
        finish_reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=4),
        timings=Timings(queue_s=0.0, prefill_s=0.5, decode_s=0.25),
    ),
)


def opened(body: object, **more: Any) -> envelope.Envelope:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return open_envelope(payload, LIMITS, **more)


def test_plain_text_is_the_whole_prompt() -> None:
    request = opened("  Hallo, 世界\n".encode()).request(request_id="r", limits=LIMITS)

    assert request.messages == (Message(role=Role.USER, content="  Hallo, 世界\n"),)
    assert (request.id, request.stream, request.deadline_s) == ("r", False, None)


@pytest.mark.parametrize("text", [b"123", b'"quoted"', b"[1, 2]", b"null", b"true"])
def test_what_is_not_an_object_is_text_even_if_it_is_json(text: bytes) -> None:
    request = opened(text).request(request_id="r", limits=LIMITS)

    assert request.messages[0].content == text.decode()


def test_a_chat_body_is_read_as_everywhere() -> None:
    body = {
        "id": "a",
        "reply_to": "x/y",
        "stream": True,
        "deadline_s": 5,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hello"},
        ],
    }

    found = opened(body)
    request = found.request(request_id="a", limits=LIMITS)

    assert (found.id, found.reply_to) == ("a", "x/y")
    assert [message.role for message in request.messages] == [Role.SYSTEM, Role.USER]
    assert (request.stream, request.deadline_s, request.sampling.temperature) == (True, 5.0, 0.0)


def test_a_prompt_body_is_read_as_the_reasoning_surface_does() -> None:
    body = {"prompt": "2+2?", "task_type": "math", "max_length": 9}

    request = opened(body).request(request_id="a", limits=LIMITS)

    assert request.messages[0].content.endswith("2+2?")
    assert request.max_tokens == 9


def test_properties_fill_in_what_the_body_does_not_say() -> None:
    properties = [
        ("id", "from-outside"),
        ("stream", "true"),
        ("deadline_s", "2.5"),
        ("reply_to", "x/y"),
        ("colour", "blue"),
    ]

    found = opened(b"hello", properties=properties)
    request = found.request(request_id="r", limits=LIMITS)

    assert (found.id, found.reply_to) == ("from-outside", "x/y")
    assert (request.stream, request.deadline_s) == (True, 2.5)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90.5", 90.5), ("5m", 300), ("-1", -1), ("-2h", -1)]
)
@pytest.mark.parametrize("payload", [b"hello", b'{"prompt": "hello"}'])
def test_how_long_the_model_stays_may_be_a_property(
    payload: bytes, text: str, seconds: float
) -> None:
    found = opened(payload, properties=[("keep_alive", text)])
    assert found.request(request_id="r", limits=LIMITS).keep_alive_s == seconds


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e999", "5 m"])
def test_no_other_time_is_taken_for_one(text: str) -> None:
    found = opened(b"hello", properties=[("keep_alive", text)])
    with pytest.raises(InvalidRequest, match="keep_alive"):
        found.request(request_id="r", limits=LIMITS)


def test_the_body_wins_over_properties() -> None:
    found = opened({"prompt": "x", "id": "inside"}, properties=[("id", "outside")])

    assert found.id == "inside"


def test_a_bad_request_still_says_where_its_error_goes() -> None:
    found = opened({"messages": 5, "id": "a", "reply_to": "x/y"})

    assert (found.id, found.reply_to) == ("a", "x/y")
    with pytest.raises(InvalidRequest, match="messages"):
        found.request(request_id="a", limits=LIMITS)


def test_a_bad_id_still_leaves_the_reply_topic() -> None:
    found = opened({"prompt": "x", "id": ["no"], "reply_to": "x/y"})

    assert found.reply_to == "x/y"
    assert found.problem
    assert found.problem.param == "id"


@pytest.mark.parametrize("bad", ["a b", "a/b", "#", "+", "", "-a", "é", "a\0", "a" * 129])
def test_an_id_must_fit_into_a_topic(bad: str) -> None:
    assert opened({"prompt": "x", "id": bad}).problem


@pytest.mark.parametrize("good", ["a", "7", "9f8e-12", "gw1:job.5=x@site~1", "A" * 128])
def test_usual_ids_pass(good: str) -> None:
    assert opened({"prompt": "x", "id": good}).id == good


@given(st.binary(max_size=200))
def test_no_payload_whatever_raises_anything_but_our_errors(payload: bytes) -> None:
    found = open_envelope(payload, LIMITS)
    with suppress(InvalidRequest):
        assert found.request(request_id="r", limits=LIMITS).messages


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["id", "reply_to", "stream", "deadline_s", "prompt", "messages", "stop"])


@given(st.dictionaries(NAMES, JSON), st.lists(st.tuples(NAMES, st.text(max_size=5)), max_size=4))
def test_no_fields_whatever_raise_anything_but_our_errors(
    body: dict[str, Any], properties: list[tuple[str, str]]
) -> None:
    found = opened(json.dumps(body).encode(), properties=properties)
    with suppress(InvalidRequest):
        assert found.request(request_id="r", limits=LIMITS).messages


@pytest.mark.parametrize(
    ("payload", "expected"), [(b"a", "a"), (b' {"id": "a"} ', "a"), (b"", None), (b"{}", None)]
)
def test_a_cancel_names_an_id_or_leaves_it_to_the_correlation(
    payload: bytes, expected: str | None
) -> None:
    assert cancelled_id(payload, LIMITS) == expected


@pytest.mark.parametrize("payload", [b"{", b'{"id": 1}', b"a b", b"\xff", b"a" * 500])
def test_a_cancel_that_cannot_be_read_is_an_error(payload: bytes) -> None:
    with pytest.raises(InvalidRequest):
        cancelled_id(payload, LIMITS)


def test_a_result_is_complete_in_itself() -> None:
    body = envelope.result("a", seq=3, attempt=2, model="small", answer=ANSWER)

    assert json.loads(body) == {
        "type": "result",
        "id": "a",
        "seq": 3,
        "attempt": 2,
        "text": "Grüße 👋",
        "finish_reason": "length",
        "model": "small",
        "served_by": "local",
        "reason": "",
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        "timings": {"queue_s": 0.0, "prefill_s": 0.5, "decode_s": 0.25},
    }


def test_a_result_carries_the_calls() -> None:
    call = ToolCall(id="c1", name="f", arguments='{"a": 1}')
    answer = replace(ANSWER, tool_calls=(call,))

    assert json.loads(envelope.result("a", seq=0, attempt=1, model="m", answer=answer))[
        "tool_calls"
    ] == [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]


def test_a_result_has_the_logprobs_that_were_asked_for() -> None:
    told = TokenLogprob(text="Grüße", logprob=-0.5, data="Grüße".encode())
    plain, with_logprobs = (
        json.loads(envelope.result("a", seq=0, attempt=1, model="m", answer=answer))
        for answer in (ANSWER, replace(ANSWER, logprobs=(told,)))
    )

    assert "logprobs" not in plain
    assert with_logprobs["logprobs"] == logprobs_body([told])


def test_an_error_says_whether_and_when_a_retry_can_help() -> None:
    body = envelope.error("a", seq=0, attempt=1, failed=Failed.of(Overloaded("full", 2.5)))

    assert json.loads(body) == {
        "type": "error",
        "id": "a",
        "seq": 0,
        "attempt": 1,
        "code": "overloaded",
        "message": "full; retry in 3 s",
        "retryable": True,
        "retry_after_ms": 2500,
    }


def test_a_refusal_says_why_nobody_took_the_request() -> None:
    failed = replace(Failed.of(Overloaded("full", 2.5)), reason="queue")
    assert json.loads(envelope.error("a", seq=0, attempt=1, failed=failed))["reason"] == "queue"


def test_an_error_names_the_field() -> None:
    failed = Failed.of(PromptTooLong(prompt_tokens=9000, limit_tokens=4095))

    message = json.loads(envelope.error("a", seq=0, attempt=1, failed=failed))

    assert (message["code"], message["param"]) == ("context_length_exceeded", "messages")
    assert "9000" in message["message"]
    assert "4095" in message["message"]


def test_accepted_and_delta_name_the_request() -> None:
    assert json.loads(envelope.accepted("a", attempt=1, position=4, eta_s=2.345)) == {
        "type": "accepted",
        "id": "a",
        "attempt": 1,
        "pos": 4,
        "eta_s": 2.3,
    }
    assert "eta_s" not in json.loads(envelope.accepted("a", attempt=1, position=4, eta_s=None))
    assert json.loads(envelope.delta("a", seq=0, attempt=2, text="hé")) == {
        "type": "delta",
        "id": "a",
        "seq": 0,
        "attempt": 2,
        "text": "hé",
    }
