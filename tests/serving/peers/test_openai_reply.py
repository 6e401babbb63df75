"""An OpenAI-style stream becomes pieces, or nonsense: never text that the peer did not send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.messages import Delta, FinishReason, Tool, ToolCall, Usage
from edge_agent.serving.peers.answer_reader import MOST_LINE_BYTES
from edge_agent.serving.peers.openai_reply import OpenAiReader
from edge_agent.serving.peers.reply import End, Expected, Nonsense
from tests.serving.peers.double import MODEL, WORDS, answer
from tests.serving.peers.house import request

if TYPE_CHECKING:
    from edge_agent.serving.peers.reply import Piece

EVENTS = answer("openai")
GOOD = b"".join(EVENTS)
PIECES = [
    *map(Delta, WORDS),
    End(finish_reason=FinishReason.STOP, usage=Usage(prompt_tokens=7, completion_tokens=6)),
]
TOOLS = (Tool(name="light"), Tool(name="blind"))


def reader(**fields: Any) -> OpenAiReader:
    expected = Expected.of(request(tools=TOOLS, **fields), frozenset({MODEL}))
    return OpenAiReader(expected, lambda: "new")


def read(*data: bytes, **fields: Any) -> list[Piece]:
    return read_with(reader(**fields), *data)


def read_with(one: OpenAiReader, *data: bytes) -> list[Piece]:
    pieces = [piece for part in data for piece in one.feed(part)]
    return [*pieces, *one.finish()]


def event(tree: object) -> bytes:
    return b"data: " + json.dumps(tree).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, **choice: Any) -> bytes:
    return event({"model": MODEL, "choices": [{"index": 0, "delta": delta or {}, **choice}]})


DONE = b"data: [DONE]\n\n"
STOP = chunk(finish_reason="stop") + DONE


def call(index: int = 0, **fields: Any) -> bytes:
    parts = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    return chunk({"tool_calls": [{"index": index, "function": parts, **fields}]})


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_bytes_of_a_stranger_are_nonsense(data: bytes) -> None:
    with pytest.raises(Nonsense):
        read(data)


NONSENSE = {
    "nothing": b"",
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "HTML in between": chunk({"content": "a"}) + b"<html>\n\n" + STOP,
    "no empty lines": GOOD.replace(b"\n\n", b"\n"),
    "HTML as data": b"data: <html></html>\n\n",
    "half JSON": b'data: {"choices": [{"ind\n\n' + STOP,
    "a list": event([]) + STOP,
    "an empty object": event({}) + STOP,
    "a whole answer": event({"choices": [{"index": 0, "message": {"content": "x"}}]}) + DONE,
    "FastAPI's way to say no": event({"detail": "Not Found"}) + STOP,
    "no reason": chunk({"content": "a"}) + DONE,
    "no mark": chunk({"content": "a"}, finish_reason="stop"),
    "another model": event({"model": "gpt", "choices": []}) + STOP,
    "another answer": event({"choices": [{"index": 1, "delta": {"content": "b"}}]}) + STOP,
    "text after the end": chunk(finish_reason="stop") + chunk({"content": "b"}) + DONE,
    "content of another type": chunk({"content": {"text": "a"}}) + STOP,
    "a refusal": chunk({"refusal": "I will not"}) + STOP,
    "an abort": chunk(finish_reason="abort") + DONE,
    "a filter": chunk(finish_reason="content_filter") + DONE,
    "calls announced, none made": chunk(finish_reason="tool_calls") + DONE,
    "a call of another tool": call(name="door", arguments="{}") + STOP,
    "a call with half its arguments": call(name="light", arguments='{"on"') + STOP,
    "a bare string for arguments": call(name="light", arguments='"on"') + STOP,
    "a call without a name": call(arguments="{}") + STOP,
    "an index beyond all": call(10**6, name="light", arguments="{}") + STOP,
    "usage below zero": event({"choices": [], "usage": {"prompt_tokens": -1}}) + STOP,
    "half a surrogate pair": b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n' + STOP,
    "not UTF-8": b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n' + STOP,
    "deep JSON": b'data: {"error":' + b"[" * 100_000 + b"\n\n" + STOP,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(name: str) -> None:
    with pytest.raises(Nonsense):
        read(NONSENSE[name])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("out of memory", "out of memory"),
        ({"message": "out of memory", "code": 500}, "out of memory"),
        ({"type": "server_error"}, "server_error"),
        ([1], ""),
    ],
)
def test_an_error_in_the_stream_is_told(error: object, words: str) -> None:
    one = reader()
    assert list(one.feed(chunk({"content": "a"}))) == [Delta("a")]
    with pytest.raises(Nonsense, match=f"reports an error: {words}"):
        list(one.feed(event({"error": error}) + DONE))


def test_an_event_is_bounded_however_many_lines_it_has() -> None:
    with pytest.raises(Nonsense, match="an event of more than"):
        read(*[b"data: " + b" " * 60_000 + b"\n"] * (MOST_LINE_BYTES // 60_000 + 1))


@pytest.mark.parametrize("content", [None, ""])
def test_pieces_without_text_say_nothing(content: str | None) -> None:
    data = chunk({"role": "assistant", "content": content, "tool_calls": None}) + STOP
    (end,) = read(data)
    assert isinstance(end, End)
    assert end.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "filler",
    [
        b": ping\n\n",
        b"\n\n\n",
        b"event: chunk\nid: 7\nretry: 10\n\n",
        event({"choices": [], "usage": None}),
        event({"error": None, "choices": []}),
    ],
)
def test_what_servers_send_in_between_says_nothing(filler: bytes) -> None:
    events = GOOD.split(b"\n\n")
    data = (b"\n\n" + filler).join(events)
    assert read(data) == PIECES


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"data: ", b"data:"),
        GOOD.rstrip(b"\n"),
        GOOD + b"data: what comes later\n\n",
    ],
    ids=["CRLF", "no space", "no last line end", "more after the end"],
)
def test_servers_write_events_in_their_own_ways(data: bytes) -> None:
    assert read(data) == PIECES


def test_what_a_server_does_not_count_is_not_counted() -> None:
    *_, end = read(chunk({"content": "a"}) + chunk({"content": "b"}) + STOP)
    assert isinstance(end, End)
    assert end.usage == Usage(prompt_tokens=0, completion_tokens=2, is_counted=False)


@pytest.mark.parametrize(
    ("details", "cached"),
    [(None, 0), ({}, 0), ({"cached_tokens": None}, 0), ({"cached_tokens": 5}, 5)],
)
def test_what_of_the_prompt_was_known_there_is_told(details: object, cached: int) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": details}
    *_, end = read(chunk(finish_reason="stop") + event({"choices": [], "usage": usage}) + DONE)
    assert isinstance(end, End)
    assert end.usage == Usage(prompt_tokens=7, completion_tokens=1, cached_tokens=cached)


@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_calls_come_whole_whatever_their_pieces(reason: str) -> None:
    data = (
        call(0, id="c1", name="light", arguments="")
        + call(0, arguments='{"on":')
        + call(1, id="c2", name="blind", arguments={"open": 7})
        + call(0, name=None, arguments=" true}")
        + call(0, name="light", arguments=None)
        + chunk(finish_reason=reason)
        + DONE
    )
    one, other, end = read(data)

    assert one == ToolCall(id="c1", name="light", arguments='{"on": true}')
    assert other == ToolCall(id="c2", name="blind", arguments='{"open":7}')
    assert isinstance(end, End)
    assert end.finish_reason is FinishReason.TOOL_CALLS


def test_who_wants_one_call_gets_one() -> None:
    data = call(0, name="light", arguments="{}") + call(1, name="blind", arguments="{}") + STOP
    (one, _) = read(data, parallel_tool_calls=False)
    assert isinstance(one, ToolCall)
    assert one.name == "light"


def test_a_call_that_was_cut_is_not_made() -> None:
    data = chunk({"content": "I call"}) + call(0, name="light", arguments='{"on"')
    text, end = read(data + chunk(finish_reason="length") + DONE)
    assert text == Delta("I call")
    assert isinstance(end, End)
    assert end.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(("said", "told"), [("END", "END"), ("other", None), (13, None)])
def test_the_stop_string_is_told_if_it_is_ours(said: object, told: str | None) -> None:
    data = chunk({"content": "a"}, finish_reason="stop", stop_reason=said) + DONE
    _, end = read(data, stop=("END",))
    assert isinstance(end, End)
    assert end.stop == told


def test_thought_is_a_sign_of_life_and_not_the_answer() -> None:
    one = reader()
    lived = []
    for data in (
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        b": ping\n\n",
    ):
        assert list(one.feed(data)) == []
        lived.append((one.has_begun, one.signs_of_life))
    assert lived == [(False, 1), (True, 2), (True, 2)]
