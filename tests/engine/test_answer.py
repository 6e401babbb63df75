"""How an answer ends, and what it is called then."""

from __future__ import annotations

import codecs
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.adjustments import Late
from edge_agent.engine.answer import Prepared, RunningAnswer
from edge_agent.engine.clock import Clock
from edge_agent.engine.logprobs import Asked
from edge_agent.messages import Delta, Done, FinishReason, Sampling, ToolCall
from edge_agent.text.answer_text import Offer
from tests.text import o200k

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from edge_agent.messages import Event

END, END_OF_TEXT = o200k.CONTROL["<|end|>"], o200k.CONTROL["<|endoftext|>"]
TAGS = {o200k.CONTROL[tag]: tag.encode() for tag in ("<|tool_call|>", "<|/tool_call|>")}
CALL = '<|tool_call|>[{"name":"f","arguments":{"a":1}}]<|/tool_call|>'


GREEDY = Sampling(
    temperature=0, top_k=0, top_p=1, min_p=0, repetition_penalty=1, presence_penalty=0,
    frequency_penalty=0,
)  # fmt: skip


def answer(
    *,
    stop: Sequence[str] = (),
    max_tokens: int = 100,
    offer: Offer | None = None,
    own_stop_ids: Collection[int] = (),
    late: Late | None = None,
) -> RunningAnswer:
    prepared = Prepared(
        id="r",
        prompt=[1, 2, 3],
        max_tokens=max_tokens,
        stop=stop,
        stop_ids={END, END_OF_TEXT, *own_stop_ids},
        sampling=GREEDY,
        offer=offer,
        own_stop_ids=own_stop_ids,
        late=late,
    )
    return RunningAnswer(prepared, slot=0, vocab=8, arrival=0, clock=clock())


def clock() -> Clock:
    """Return the clock of a request that had its slot at once."""
    clock = Clock(submitted_s=0.0)
    clock.has_slot(0.0)
    return clock


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


def test_a_token_that_the_request_named_is_named_as_the_end() -> None:
    hello, world = tokens_of("hello world")
    told = run(answer(own_stop_ids={world}), [hello, world])

    assert text_of(told) == "hello"
    assert (end_of(told).finish_reason, end_of(told).stop) == (FinishReason.STOP, world)
    assert end_of(run(answer(own_stop_ids={world}), [hello, END])).stop is None


def test_stop_strings_end_nothing_before_the_least_number_of_tokens() -> None:
    late = Late(ids={END}, min_tokens=2)
    told = run(answer(stop=["world", "!"], late=late), tokens_of("hello world! No! More"))

    assert text_of(told) == "hello world"
    assert end_of(told).usage.completion_tokens == 3
    assert end_of(told).stop == "!"


PIECES = ["x", " ", "S", "TO", "P", "\n", "aab", "é", "👍", CALL[:20], CALL[20:40], CALL[40:], "{"]


@st.composite
def tokens_as_bytes(draw: st.DrawFn) -> list[bytes]:
    """Return the bytes of some tokens: characters cut anywhere, and control tokens without any."""
    data = "".join(draw(st.lists(st.sampled_from(PIECES), max_size=12))).encode()
    data += draw(st.sampled_from([b"", b"\xf0\x9f", b"\xff"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def told_with_logprobs(
    tokens: list[bytes], *, is_told: bool = True, **options: Any
) -> list[list[Event]]:
    """Return what each token brings; token i has id i, so it can be told from all others."""
    asked = Asked(num_top=1, spell=lambda token: (str(token), tokens[token]))
    prepared = Prepared(
        id="r",
        prompt=[0],
        stop_ids=(),
        sampling=GREEDY,
        logprobs=asked if is_told else None,
        **{"stop": (), "max_tokens": len(tokens), **options},
    )
    running = RunningAnswer(prepared, slot=0, vocab=len(tokens), arrival=0, clock=clock())
    told: list[list[Event]] = []
    for token, data in enumerate(tokens):
        logits = np.zeros(len(tokens), np.float32)
        logits[token] = 1
        assert running.pick(logits) == token
        told.append(running.commit(token, data, now_s=1.0))
        if told[-1] and isinstance(told[-1][-1], Done):
            break
    return told


def ids_of(events: list[Event]) -> list[int]:
    return [int(e.text) for event in events if isinstance(event, Delta) for e in event.logprobs]


STOPS = st.lists(st.sampled_from(["STOP", "aab", "OPx", "é", " {", "\n\n"]), max_size=3)
OFFERS = st.sampled_from(
    [
        None,
        Offer(names=["f"]),
        Offer(names=["f"], many=False),
        Offer(names=["f"], opening=CALL[:20]),
    ]
)


@given(tokens_as_bytes(), STOPS, OFFERS, st.integers(0, 3))
def test_each_token_is_told_once_in_order_and_changes_nothing_else(
    tokens: list[bytes], stop: list[str], offer: Offer | None, min_tokens: int
) -> None:
    options: dict[str, Any] = {
        "stop": stop,
        "offer": offer,
        "late": Late(ids=(), min_tokens=min_tokens),
    }
    told = told_with_logprobs(tokens, **options)
    events = [event for events in told for event in events]
    without = [e for events in told_with_logprobs(tokens, is_told=False, **options) for e in events]

    assert ids_of(events) == list(range(len(told)))
    assert len(told) == end_of(events).usage.completion_tokens
    assert ids_of(without) == []
    assert text_of(events) == text_of(without)
    assert calls_of(events) == calls_of(without)


def calls_of(told: list[Event]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in told if isinstance(call, ToolCall)]


@given(tokens_as_bytes(), STOPS)
def test_a_token_is_told_with_its_first_character(tokens: list[bytes], stop: list[str]) -> None:
    told = told_with_logprobs(tokens, stop=stop)
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    first_chars = [0, *accumulate(len(decode(data)) for data in tokens)]

    shown = num_told = 0
    # With the last one comes all that is left.
    for num_tokens, events in enumerate(told[:-1], start=1):
        shown += len(text_of(events))
        num_told += len(ids_of(events))
        assert num_told == sum(at < shown for at in first_chars[:num_tokens])


def test_what_it_had_computed_itself_is_no_saving_when_it_goes_on() -> None:
    running = answer()
    running.take_over(1)
    running.cached += 1
    running.resume(3, kept_tokens=0)
    running.take_over(2)
    assert (running.slot, running.unread, running.next_tokens(1)) == (3, 1, [3])
    running.cached += 1
    told = run(running, [END])

    assert end_of(told).usage.cached_tokens == 1


def test_a_resumed_answer_reads_its_own_tokens_like_a_prompt() -> None:
    running = answer()
    tokens = tokens_of("hello world wide")
    run(running, tokens)
    running.cached = len(running.known) - 1
    assert (running.unread, list(running.next_tokens(1))) == (0, tokens[-1:])

    running.resume(1, kept_tokens=2)
    assert list(running.known) == [1, 2, 3, *tokens]
    assert running.unread == len(running.known) - 2
    assert list(running.next_tokens(2)) == [3, *tokens[:1]]
    running.cached += 2
    assert list(running.next_tokens(running.unread)) == tokens[1:]
    running.cached = len(running.known) - 1
    assert (running.unread, list(running.next_tokens(1))) == (0, tokens[-1:])
