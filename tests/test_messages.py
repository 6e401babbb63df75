"""Events fold to an answer; everything survives the wire between processes."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.messages import (
    Accepted,
    Answer,
    Delta,
    Done,
    Event,
    Failed,
    FinishReason,
    Message,
    NamedTool,
    Request,
    Role,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    Usage,
    fold,
)

DONE = Done(
    finish_reason=FinishReason.TOOL_CALLS,
    usage=Usage(prompt_tokens=7, completion_tokens=5),
    timings=Timings(queue_s=0.5, prefill_s=1.0, decode_s=2.0),
)
CALL = ToolCall(id="c1", name="f", arguments='{"a": 1}')
LIKELY = TokenLogprob(text="a", logprob=-0.25, data=b"a")
END = TokenLogprob(text="<|end|>", logprob=-1.5, top=(LIKELY,))
REQUEST = Request(
    id="r",
    messages=(
        Message(role=Role.USER, content="hi"),
        Message(role=Role.ASSISTANT, content="", tool_calls=(CALL,)),
        Message(role=Role.TOOL, content="42", tool_call_id="c1"),
    ),
    tools=(Tool(name="f", parameters={"type": "object", "properties": {}}),),
    logprobs=2,
    logit_bias={5: -1.5},
    min_tokens=1,
    ignore_eos=True,
    stop_token_ids=(7, 8),
)


def test_text_and_calls_fold_to_an_answer() -> None:
    accepted = Accepted(prompt_tokens=7, served_by="peer")

    assert fold([accepted, Delta("a"), CALL, Delta("b"), DONE]) == Answer(
        text="ab", done=DONE, tool_calls=(CALL,), served_by="peer"
    )


def test_logprobs_of_all_pieces_fold_to_those_of_the_answer() -> None:
    answer = fold([Delta("a", (LIKELY,)), Delta("b"), CALL, Delta("", (END,)), DONE])

    assert answer == Answer(text="ab", done=DONE, tool_calls=(CALL,), logprobs=(LIKELY, END))


def test_a_failure_is_all_there_is() -> None:
    failed = Failed(code="internal", message="a bug", retryable=False)

    assert fold([Accepted(prompt_tokens=7), Delta("a"), failed]) == failed


def test_a_stream_without_an_end_is_a_bug() -> None:
    with pytest.raises(ValueError, match="ended without"):
        fold([Delta("a")])


@pytest.mark.parametrize("choice", [*ToolMode, NamedTool("f")])
def test_a_request_survives_the_wire(choice: ToolChoice) -> None:
    request = msgspec.structs.replace(REQUEST, tool_choice=choice, parallel_tool_calls=False)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request


@pytest.mark.parametrize(
    "event", [Accepted(prompt_tokens=1), Delta("a"), Delta("", (LIKELY, END)), CALL, DONE]
)
def test_an_event_survives_the_wire(event: Event) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Event) == event


def test_what_an_older_version_wrote_can_be_read() -> None:
    old = {"id": "r", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}

    request = msgspec.convert(old, Request)

    assert request.messages == REQUEST.messages[:1]
    assert request.tool_choice is ToolMode.AUTO
