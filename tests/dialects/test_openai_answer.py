"""What OpenAI's clients read: completions, chunks, errors, model cards."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edge_agent.dialects.openai_answer import (
    Chunks,
    Head,
    completion_body,
    error_body,
    model_body,
)
from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Done,
    Event,
    Failed,
    FinishReason,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
)

HEAD = Head(id="chatcmpl-1", created=1_700_000_000, model="m")
DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=6),
    timings=Timings(queue_s=0.5, prefill_s=1.0, decode_s=2.0),
    stop="END",
)
CALLS = (
    ToolCall(id="c1", name="f", arguments="{}"),
    ToolCall(id="c2", name="g", arguments='{"a": 1}'),
)


def streamed(*events: Event) -> list[dict[str, Any]]:
    chunks = Chunks(HEAD, include_usage=False)
    return [body for event in events for body in chunks.bodies(event)]


def test_a_completion_has_the_shape_that_clients_know() -> None:
    body = completion_body(HEAD, Answer(text="Hello", done=DONE))

    assert body["object"] == "chat.completion"
    assert (body["id"], body["created"], body["model"]) == ("chatcmpl-1", 1_700_000_000, "m")
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert choice["stop_reason"] == "END"
    assert choice["logprobs"] is None
    assert body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 6},
    }


def test_calls_stand_in_the_message_and_no_text_is_null() -> None:
    answer = Answer(text="", done=DONE, tool_calls=(CALLS[0],))

    assert completion_body(HEAD, answer)["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_streamed_calls_are_numbered() -> None:
    chunks = streamed(Accepted(prompt_tokens=7), CALLS[0], CALLS[1], DONE)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]

    assert deltas[1] == {
        "tool_calls": [
            {
                "index": 0,
                "id": "c1",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            }
        ]
    }
    assert deltas[2]["tool_calls"][0]["index"] == 1
    assert deltas[2]["tool_calls"][0]["function"] == {"name": "g", "arguments": '{"a": 1}'}


def test_timings_are_told_in_milliseconds() -> None:
    assert completion_body(HEAD, Answer(text="", done=DONE))["metrics"] == {
        "time_to_first_token_ms": 1500.0,
        "generation_time_ms": 2000.0,
        "queue_time_ms": 500.0,
        "mean_itl_ms": 500.0,
        "tokens_per_second": 2.0,
    }


def test_an_answer_of_one_token_has_no_pace() -> None:
    done = Done(
        finish_reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=7, completion_tokens=1),
        timings=Timings(queue_s=0, prefill_s=1.0, decode_s=0.0),
    )
    metrics = completion_body(HEAD, Answer(text="", done=done))["metrics"]
    assert metrics["tokens_per_second"] == metrics["mean_itl_ms"] == 0


def test_a_stream_is_role_then_content_then_an_empty_delta_with_the_reason() -> None:
    chunks = streamed(Accepted(prompt_tokens=7), Delta("Hel"), Delta("lo"), DONE)

    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert not any("usage" in chunk for chunk in chunks)


def test_logprobs_stand_in_the_chunk_of_their_text_and_in_the_whole_answer() -> None:
    hel, lo, end = (TokenLogprob(text=text, logprob=-1.0) for text in ("Hel", "lo", "<|end|>"))
    told = streamed(Accepted(prompt_tokens=7), Delta("Hello", (hel, lo)), Delta("", (end,)), DONE)
    whole = completion_body(HEAD, Answer(text="Hello", done=DONE, logprobs=(hel, lo, end)))

    def tokens(body: dict[str, Any]) -> list[str] | None:
        logprobs = body["choices"][0]["logprobs"]
        return logprobs and [token["token"] for token in logprobs["content"]]

    assert [tokens(chunk) for chunk in told] == [None, ["Hel", "lo"], ["<|end|>"], None]
    assert tokens(whole) == ["Hel", "lo", "<|end|>"]


def test_the_token_that_ended_an_answer_is_told_by_its_id() -> None:
    assert streamed(replace(DONE, stop=7))[0]["choices"][0]["stop_reason"] == 7


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for() -> None:
    last, usage = Chunks(HEAD, include_usage=True).bodies(DONE)
    assert last["choices"][0]["stop_reason"] == "END"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 12


def test_what_nobody_counted_is_no_usage() -> None:
    uncounted = Usage(prompt_tokens=0, completion_tokens=5, is_counted=False)
    done = replace(DONE, usage=uncounted)

    body = completion_body(HEAD, Answer(text="Hello", done=done))
    assert body["usage"] is None
    assert (body["metrics"]["tokens_per_second"], body["metrics"]["mean_itl_ms"]) == (0, 0)
    (last,) = Chunks(HEAD, include_usage=True).bodies(done)
    assert "usage" not in last


def test_who_answers_is_told_first_last_and_when_another_takes_over() -> None:
    here = Accepted(prompt_tokens=7, reason="local")
    there = Accepted(prompt_tokens=None, served_by="attic", reason="crashed")

    first, late, piece, last = streamed(here, there, Delta("a"), DONE)

    assert first["edge"] == {"served_by": "local", "reason": "local"}
    assert late["edge"] == last["edge"] == {"served_by": "attic", "reason": "crashed"}
    assert late["choices"][0]["delta"] == {}
    assert "edge" not in piece
    whole = Answer(text="a", done=DONE, served_by="attic", reason="crashed")
    assert completion_body(HEAD, whole)["edge"] == last["edge"]


def test_a_failure_in_a_stream_is_an_error_object() -> None:
    failed = Failed(code="engine_crashed", message="it died", retryable=True)
    assert streamed(failed) == [error_body(failed)]
    assert error_body(failed) == {
        "error": {
            "message": "it died",
            "type": "api_error",
            "param": None,
            "code": "engine_crashed",
        }
    }


def test_a_callers_mistake_is_typed_as_one() -> None:
    failed = Failed(code="unsupported", message="no", retryable=False, param="tools")
    assert error_body(failed)["error"]["type"] == "invalid_request_error"
    assert error_body(failed)["error"]["param"] == "tools"


def test_a_model_card_tells_its_context() -> None:
    card = model_body("m", created=5, context_tokens=4096)
    assert card["object"] == "model"
    assert card["max_model_len"] == 4096
    assert {"id", "created", "owned_by", "root", "parent"} <= card.keys()
