"""Calls that a peer passes on as text are calls; all other text is told as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages import Answer, Delta, FinishReason, Tool, ToolCall, ToolMode, Usage
from edge_agent.serving.peers.reply import End, Expected
from edge_agent.serving.peers.text_calls import TextCalls
from tests.serving.peers.double import Double, Fault, answer
from tests.serving.peers.house import KINDS, house, outcome, request, settings

if TYPE_CHECKING:
    from edge_agent.serving.peers.reply import Piece

TOOLS = (Tool(name="light"), Tool(name="blind"))
LIGHT = '{"name": "light", "arguments": {"on": true}}'
BLIND = '{"name": "blind", "arguments": {}}'
CALLED_LIGHT = ToolCall(id="new", name="light", arguments='{"on": true}')
CALLED_BLIND = ToolCall(id="new", name="blind", arguments="{}")
MADE = ToolCall(id="c1", name="blind", arguments="{}")
USAGE = Usage(prompt_tokens=1, completion_tokens=2)


def end(reason: FinishReason = FinishReason.STOP) -> End:
    return End(finish_reason=reason, usage=USAGE)


def sift(*pieces: Piece, **fields: Any) -> list[Piece]:
    calls = TextCalls(Expected.of(request(tools=TOOLS, **fields), frozenset()), lambda: "new")
    return [told for piece in pieces for told in calls.sift(piece)]


@pytest.mark.parametrize(
    "text",
    [
        f"<|tool_call|>[{LIGHT}, {BLIND}]<|/tool_call|>",
        f"functools[{LIGHT}, {BLIND}]",
        f"<tool_call>{LIGHT}</tool_call>\n<tool_call>{BLIND}</tool_call>",
        f"[{LIGHT}, {BLIND}]",
    ],
)
def test_calls_are_found_however_the_model_wrote_them(text: str) -> None:
    assert sift(*map(Delta, text), end()) == [
        CALLED_LIGHT,
        CALLED_BLIND,
        end(FinishReason.TOOL_CALLS),
    ]


@given(st.text(max_size=40), st.integers(1, 5))
def test_other_text_is_told_to_the_last_character(text: str, size: int) -> None:
    parts = [Delta(text[at : at + size]) for at in range(0, len(text), size)]
    *told, last = sift(*parts, end())
    assert "".join(piece.text for piece in told if isinstance(piece, Delta)) == text
    assert last == end()


def test_a_call_of_another_tool_is_text() -> None:
    text = 'functools[{"name": "door", "arguments": {}}]'
    assert sift(Delta(text), end()) == [Delta(text), end()]


def test_an_answer_that_was_cut_says_so_and_keeps_its_calls() -> None:
    cut = end(FinishReason.LENGTH)
    assert sift(Delta(f"functools[{LIGHT}, {BLIND[:9]}"), cut)[::2] == [CALLED_LIGHT, cut]


def test_who_wants_one_call_gets_one_and_nothing_after_it() -> None:
    pieces = sift(Delta(f"functools[{LIGHT}, {BLIND}] So."), end(), parallel_tool_calls=False)
    assert pieces == [CALLED_LIGHT, end(FinishReason.TOOL_CALLS)]


def test_what_the_server_found_itself_comes_after_the_text() -> None:
    last = end(FinishReason.TOOL_CALLS)
    assert sift(Delta("I call <tool"), MADE, last) == [
        Delta("I call "),
        Delta("<tool"),
        MADE,
        last,
    ]


@pytest.mark.parametrize("choice", [ToolMode.AUTO, ToolMode.NONE])
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_are_looked_for_where_they_may_be_made(kind: str, choice: ToolMode) -> None:
    text = f"functools[{LIGHT}]"
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        double.fault = Fault(pieces=answer(kind, words=(text,)))
        last = await outcome(peers, request(tools=TOOLS, tool_choice=choice))
    assert isinstance(last, Answer)
    may_call = choice is ToolMode.AUTO
    assert [call.name for call in last.tool_calls] == (["light"] if may_call else [])
    assert last.text == ("" if may_call else text)
