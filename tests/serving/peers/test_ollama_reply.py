"""A stream of Ollama becomes pieces, or nonsense: never text that the peer did not send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.messages import Delta, FinishReason, Tool, ToolCall, Usage
from edge_agent.serving.peers.ollama_reply import OllamaReader
from edge_agent.serving.peers.reply import MOST_CALLS, End, Expected, Nonsense, TooLong
from tests.serving.peers.double import MODEL, WORDS, answer
from tests.serving.peers.house import request

if TYPE_CHECKING:
    from edge_agent.serving.peers.reply import Piece

LINES = answer("ollama")
GOOD = b"".join(LINES)
PIECES = [
    *map(Delta, WORDS),
    End(finish_reason=FinishReason.STOP, usage=Usage(prompt_tokens=7, completion_tokens=6)),
]


def reader(**fields: Any) -> OllamaReader:
    asked = request(tools=(Tool(name="light"), Tool(name="blind")), **fields)
    return OllamaReader(Expected.of(asked, frozenset({MODEL})), lambda: "new")


def read(*data: bytes, **fields: Any) -> list[Piece]:
    one = reader(**fields)
    pieces = [piece for part in data for piece in one.feed(part)]
    return [*pieces, *one.finish()]


def line(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "done": False, **fields}).encode() + b"\n"


def said(content: str | None, *calls: dict[str, Any], **fields: Any) -> bytes:
    message = {"role": "assistant", "content": content, "tool_calls": list(calls) or None}
    return line(message=message, **fields)


DONE = line(done=True, done_reason="stop")


def call(name: str, arguments: object, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **fields}


NONSENSE = {
    "nothing": b"",
    "HTML": b"<html><body>502 Bad Gateway</body></html>\n",
    "half JSON": b'{"model": "phi\n' + DONE,
    "a list": b"[]\n" + DONE,
    "an empty object": b"{}\n" + DONE,
    "no end": said("a"),
    "another model": line(model="llama3") + DONE,
    "content of another type": line(message={"content": 1}) + DONE,
    "a load, not an answer": line(done=True, done_reason="load"),
    "an unload": line(done=True, done_reason="unload"),
    "a call of another tool": said("", call("door", {})) + DONE,
    "arguments in a string": said("", call("light", "{}")) + DONE,
    "a call without a function": said("", {"id": "c1"}) + DONE,
    "counts below zero": line(done=True, done_reason="stop", eval_count=-1),
    "more calls than anybody makes": said("", *[call("light", {})] * (MOST_CALLS + 1)) + DONE,
    "more calls, bit by bit": said("", call("light", {})) * (MOST_CALLS + 1) + DONE,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(name: str) -> None:
    with pytest.raises(Nonsense):
        read(NONSENSE[name])


@pytest.mark.parametrize("error", ["out of memory", {"message": "out of memory"}])
def test_an_error_in_the_stream_is_told(error: object) -> None:
    one = reader()
    assert list(one.feed(said("a"))) == [Delta("a")]
    with pytest.raises(Nonsense, match="reports an error: out of memory"):
        list(one.feed(json.dumps({"error": error}).encode() + b"\n"))


@pytest.mark.parametrize(
    "data",
    [GOOD.replace(b"\n", b"\r\n"), GOOD.replace(b"\n", b"\n\n"), GOOD.rstrip(b"\n"), GOOD + b"x\n"],
    ids=["CRLF", "empty lines", "no last line end", "more after the end"],
)
def test_servers_write_lines_in_their_own_ways(data: bytes) -> None:
    assert read(data) == PIECES


def test_the_last_line_may_carry_text() -> None:
    text, end = read(said("a", done=True, done_reason="length"))
    assert text == Delta("a")
    assert isinstance(end, End)
    assert end.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("counts", [{}, {"eval_count": 2}, {"prompt_eval_count": 3}])
def test_half_a_count_is_none_and_an_old_server_gives_no_reason(counts: dict[str, int]) -> None:
    _, _, end = read(said("a") + said("b") + line(done=True, **counts))
    assert end == End(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=0, completion_tokens=2, is_counted=False),
    )


def test_calls_come_with_their_arguments_as_text() -> None:
    data = said(None, call("light", {"on": True}, id="c1")) + said("", call("blind", None)) + DONE
    one, other, end = read(data)

    assert one == ToolCall(id="c1", name="light", arguments='{"on":true}')
    assert other == ToolCall(id="new", name="blind", arguments="{}")
    assert isinstance(end, End)
    assert end.finish_reason is FinishReason.TOOL_CALLS


def test_thought_is_a_sign_of_life_and_not_the_answer() -> None:
    one = reader()
    lived = []
    for data in (said(""), line(message={"thinking": "hm"})):
        assert list(one.feed(data)) == []
        lived.append((one.has_begun, one.signs_of_life))
    assert lived == [(False, 1), (True, 2)]


@pytest.mark.parametrize("error", ["the input length exceeds the context length"])
def test_a_prompt_too_long_is_told_from_other_errors_before_the_answer(error: str) -> None:
    """Up to 0.12 as a line of a stream that has begun with status 200."""
    data = json.dumps({"error": error, "status": 400}).encode() + b"\n"
    with pytest.raises(TooLong):
        read(data)
    with pytest.raises(Nonsense) as later:
        read(said("a") + data)
    assert not isinstance(later.value, TooLong)


@pytest.mark.parametrize(("count", "is_cut"), [(511, False), (512, True)])
def test_a_prompt_that_was_cut_in_silence_is_no_prompt_of_ours(count: int, *, is_cut: bool) -> None:
    """As 0.12.5 does, which does not know `truncate`: 512 is the context it was asked for."""
    expected = Expected.of(request(), frozenset({MODEL}), context_tokens=512)
    data = said("a") + line(done=True, done_reason="stop", prompt_eval_count=count, eval_count=1)
    one = OllamaReader(expected, lambda: "new")
    if is_cut:
        with pytest.raises(TooLong, match="cut the prompt to its context of 512 tokens"):
            list(one.feed(data))
    else:
        assert len(list(one.feed(data))) == 2
