"""However its bytes arrive, an answer is the same, or none: in either protocol."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.messages import Delta, FinishReason, Tool, Usage
from edge_agent.serving.peers.answer_reader import MOST_LINE_BYTES, _Lines
from edge_agent.serving.peers.ollama_reply import OllamaReader
from edge_agent.serving.peers.openai_reply import OpenAiReader
from edge_agent.serving.peers.reply import End, Expected, Nonsense
from tests.serving.peers.double import MODEL, WORDS, answer
from tests.serving.peers.house import KINDS, request

if TYPE_CHECKING:
    from edge_agent.serving.peers.answer_reader import AnswerReader
    from edge_agent.serving.peers.reply import Piece

GOOD = {kind: b"".join(answer(kind)) for kind in KINDS}
# What follows the end is not looked at; here an answer is over.
LENGTH = {
    "ollama": len(GOOD["ollama"]) - 1,
    "openai": GOOD["openai"].index(b"[DONE]") + len(b"[DONE]"),
}
SEPARATOR = {"ollama": b"\n", "openai": b"\n\n"}
PIECES = [
    *map(Delta, WORDS),
    End(finish_reason=FinishReason.STOP, usage=Usage(prompt_tokens=7, completion_tokens=6)),
]
# With and without tools to look for in the text.
OFFERS: tuple[dict[str, Any], ...] = ({}, {"tools": (Tool(name="light"),)})

kinds = pytest.mark.parametrize("kind", KINDS)


def reader(kind: str, offer: dict[str, Any] | None = None) -> AnswerReader:
    expected = Expected.of(request(**(offer or {})), frozenset({MODEL}))
    return (OllamaReader if kind == "ollama" else OpenAiReader)(expected, lambda: "new")


def read(one: AnswerReader, *data: bytes) -> list[Piece]:
    pieces = [piece for part in data for piece in one.feed(part)]
    return [*pieces, *one.finish()]


@kinds
@pytest.mark.parametrize("offer", OFFERS)
def test_a_good_answer(kind: str, offer: dict[str, Any]) -> None:
    assert read(reader(kind, offer), GOOD[kind]) == PIECES


@kinds
def test_cut_anywhere_an_answer_is_the_same(kind: str) -> None:
    good = GOOD[kind]
    for index in range(len(good)):
        assert read(reader(kind), good[:index], good[index:]) == PIECES


@kinds
@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_cut_everywhere_an_answer_is_the_same(kind: str, shares: list[float]) -> None:
    good = GOOD[kind]
    cuts = sorted(round(share * len(good)) for share in shares)
    parts = [good[begin:end] for begin, end in pairwise([0, *cuts, len(good)])]
    assert read(reader(kind), *parts) == PIECES


@kinds
@pytest.mark.parametrize("offer", OFFERS)
def test_ended_anywhere_an_answer_is_a_beginning_and_then_no_answer(
    kind: str, offer: dict[str, Any]
) -> None:
    for index in range(LENGTH[kind]):
        one = reader(kind, offer)
        told = list(one.feed(GOOD[kind][:index]))
        assert told == PIECES[: len(told)]
        with pytest.raises(Nonsense):
            list(one.finish())


@kinds
@settings(deadline=None)
@given(st.binary(max_size=300), st.floats(0, 1))
def test_garbage_in_between_adds_and_hides_nothing(kind: str, garbage: bytes, at: float) -> None:
    parts = answer(kind)
    index = round(at * len(parts))
    data = b"".join([*parts[:index], garbage + SEPARATOR[kind], *parts[index:]])
    one = reader(kind)
    told = []
    try:
        for piece in one.feed(data):
            told.append(piece)  # noqa: PERF402  # what came before the error counts
        told += one.finish()
        assert told == PIECES
    except Nonsense:
        assert told == PIECES[: len(told)]


@kinds
@pytest.mark.parametrize("name", [MODEL, f"{MODEL}:latest", ""])
def test_a_model_may_say_its_name_or_nothing(kind: str, name: str) -> None:
    data = GOOD[kind].replace(f'"{MODEL}"'.encode(), f'"{name}"'.encode())
    assert read(reader(kind), data) == PIECES


@kinds
@pytest.mark.parametrize("name", ["phi-4", "phi-4-mini:3.8b", "gpt\\u0000\\n"])
def test_another_model_is_no_answer(kind: str, name: str) -> None:
    data = GOOD[kind].replace(f'"{MODEL}"'.encode(), f'"{name}"'.encode())
    with pytest.raises(Nonsense, match="another model"):
        read(reader(kind), data)


@settings(deadline=None)
@given(lines=st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"").rstrip(b"\r"))))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_do_not_depend_on_how_they_arrive(lines: list[bytes], end: bytes) -> None:
    data = b"".join(line + end for line in lines) + b"rest"
    for step in (1, 2, 7, len(data)):
        cutter = _Lines(1000)
        parts = [data[index : index + step] for index in range(0, len(data), step)]
        assert [line for part in parts for line in cutter.split(part)] == lines


def test_a_line_is_bounded() -> None:
    cutter = _Lines(10 * MOST_LINE_BYTES)
    assert list(cutter.split(b"x" * MOST_LINE_BYTES)) == []
    with pytest.raises(Nonsense, match="a line of more than"):
        list(cutter.split(b"x"))


def test_the_whole_is_bounded() -> None:
    cutter = _Lines(100)
    assert len(list(cutter.split(b"1234\n" * 20))) == 20
    with pytest.raises(Nonsense, match="does not stop"):
        list(cutter.split(b"\n"))
