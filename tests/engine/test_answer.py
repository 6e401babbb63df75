"""How an answer ends, and what it is called then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.engine.answer import Clock, Prepared, RunningAnswer
from edge_agent.messages import Delta, Done, FinishReason, Sampling, ToolCall
from edge_agent.text.answer_text import Offer
from tests.text import o200k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.messages import Event

END, END_OF_TEXT = o200k.CONTROL["<|end|>"], o200k.CONTROL["<|endoftext|>"]
TAGS = {o200k.CONTROL[tag]: tag.encode() for tag in ("<|tool_call|>", "<|/tool_call|>")}
CALL = '<|tool_call|>[{"name":"f","arguments":{"a":1}}]<|/tool_call|>'


def answer(
    *, stop: Sequence[str] = (), max_tokens: int = 100, offer: Offer | None = None
) -> RunningAnswer:
    prepared = Prepared(
        id="r",
        prompt=[1, 2, 3],
        max_tokens=max_tokens,
        stop=stop,
        stop_ids={END, END_OF_TEXT},
        sampling=Sampling(
            temperature=0, top_k=0, top_p=1, min_p=0, repetition_penalty=1,
            presence_penalty=0, frequency_penalty=0,
        ),
        offer=offer,
    )  # fmt: skip
    return RunningAnswer(prepared, slot=0, vocab=8, arrival=0, clock=Clock(submitted_s=0.0))


def tokens_of(text: str) -> list[int]:
    tokenizer = o200k.tokenizer()
    tokens: list[int] = []
    for part in tokenizer.split_control(text):
        tokens += tokenizer.encode(part) if isinstance(part, str) else [part]
    return tokens


def run(running: RunningAnswer, tokens: Sequence[int]) -> list[Event]:
    """Commit tokens until the answer is over, one second each."""
    told: list[Event] = []
    for now_s, token in enumerate(tokens, start=1):
        told += running.commit(token, o200k.tokenizer().bytes_of(token), now_s=float(now_s))
        if told and isinstance(told[-1], Done):
            break
    return told


def end_of(told: list[Event]) -> Done:
    done = told[-1]
    assert isinstance(done, Done)
    return done


def text_of(told: list[Event]) -> str:
    return "".join(event.text for event in told if isinstance(event, Delta))


@pytest.mark.parametrize("end", [END, END_OF_TEXT])
def test_both_of_phis_end_tokens_end_an_answer(end: int) -> None:
    told = run(answer(), [*tokens_of("hello world"), end, *tokens_of(" and more")])

    assert text_of(told) == "hello world"
    assert end_of(told).finish_reason is FinishReason.STOP
    assert end_of(told).usage.completion_tokens == 3


def test_other_control_tokens_have_no_text() -> None:
    tokens = tokens_of("a<|tool_call|>b<|user|>c<|end|>")

    assert text_of(run(answer(), tokens)) == "abc"


def test_the_bound_of_the_answer_ends_it() -> None:
    told = run(answer(max_tokens=1), tokens_of("hello world"))

    assert text_of(told) == "hello"
    assert end_of(told).finish_reason is FinishReason.LENGTH


def test_an_answer_with_a_call_ends_for_it() -> None:
    told = run(answer(offer=Offer(names=["f"], tags=TAGS)), tokens_of(f"I look.{CALL}<|end|>"))

    assert text_of(told) == "I look."
    [call] = [event for event in told if isinstance(event, ToolCall)]
    assert (call.name, call.arguments) == ("f", '{"a": 1}')
    assert end_of(told).finish_reason is FinishReason.TOOL_CALLS


def test_a_call_that_was_cut_is_text_and_no_reason() -> None:
    tokens = tokens_of(CALL)[:6]
    told = run(answer(offer=Offer(names=["f"], tags=TAGS), max_tokens=6), tokens)

    assert text_of(told) == '<|tool_call|>[{"name":"f'
    assert end_of(told).finish_reason is FinishReason.LENGTH


def test_an_only_call_ends_the_answer_without_an_end_token() -> None:
    offer = Offer(names=["f"], tags=TAGS, many=False)
    told = run(answer(offer=offer), tokens_of(CALL + "More."))

    assert [type(event) for event in told] == [ToolCall, Done]
    assert end_of(told).finish_reason is FinishReason.TOOL_CALLS


def test_a_stop_string_is_named() -> None:
    told = run(answer(stop=["world"]), tokens_of("hello world wide"))

    assert text_of(told) == "hello "
    assert end_of(told).stop == "world"
    assert end_of(told).timings.decode_s == 1.0
