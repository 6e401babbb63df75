"""Calls are found in every form models write; everything else is text, to the last character."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.calls.reader import MOST_HELD_CHARS, TAGS, ToolCallReader
from edge_agent.messages import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.calls.reader import Piece

NAMES = ("f", "get_weather")
F = '{"name": "f", "arguments": {"a": 1}}'
G = '{"name": "get_weather", "arguments": {"city": "Köln", "in": [1, {"x": "]}"}]}}'
CALLED_F = ("f", '{"a": 1}')
CALLED_G = ("get_weather", '{"city": "Köln", "in": [1, {"x": "]}"}]}')


def reader() -> ToolCallReader:
    ids = itertools.count(1)
    return ToolCallReader(NAMES, lambda: f"c{next(ids)}")


def read(pieces: Iterable[str]) -> list[str | tuple[str, str]]:
    """Return texts and calls of a whole answer, texts that follow each other joined."""
    found = reader()
    told: list[Piece] = [told for piece in pieces for told in found.feed(piece)]
    return joined([*told, *found.finish()])


def joined(told: Iterable[Piece]) -> list[str | tuple[str, str]]:
    merged: list[str | tuple[str, str]] = []
    for piece in told:
        if isinstance(piece, ToolCall):
            merged.append((piece.name, piece.arguments))
        elif merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


CALLS = [
    (f"<|tool_call|>[{F}]<|/tool_call|>", [CALLED_F]),
    (f"<|tool_call|>[{F}, {G}]<|/tool_call|>", [CALLED_F, CALLED_G]),
    (f"<|tool_call|>[{F}", [CALLED_F]),  # the end closes what the model did not
    (f"<|tool_call|>{F}{G}<|/tool_call|>", [CALLED_F, CALLED_G]),
    (f"<|tool_call|>{F};\n{G}", [CALLED_F, CALLED_G]),
    (f"<|tool_call|>{F}<|/tool_call|>", [CALLED_F]),
    (f"<|tool_call|>[{json.dumps(F)}, {json.dumps(G)}]<|/tool_call|>", [CALLED_F, CALLED_G]),
    (f"<|tool_call|>{json.dumps(f'[{F}, {G}]')}<|/tool_call|>", [CALLED_F, CALLED_G]),
    (f"functools[{F}]", [CALLED_F]),
    (f"functools[{F}, {G}]", [CALLED_F, CALLED_G]),
    (f" \n[{F}, {G}]", [CALLED_F, CALLED_G]),
    (f"{F}\n{G}", [CALLED_F, CALLED_G]),
    ('{"name": "f", "parameters": {"a": 1}}', [CALLED_F]),
    ('{"arguments": {"a": 1}, "name": "f"}', [CALLED_F]),
    (f"<tool_call>\n{F}\n</tool_call>", [CALLED_F]),
    (f"<tool_call>\n{F}\n</tool_call>\n<tool_call>\n{G}\n</tool_call>\n", [CALLED_F, CALLED_G]),
    (f"<tool_call>[{F}, {G}]</tool_call>", [CALLED_F, CALLED_G]),
    (f"I look.\n<tool_call>{F}</tool_call>", ["I look.\n", CALLED_F]),
    (f"I look.<|tool_call|>[{F}]<|/tool_call|> Done.", ["I look.", CALLED_F, "Done."]),
    (f"a < b <tool <tool_call>{F}", ["a < b <tool ", CALLED_F]),
    (f"<|tool_call|>no <tool_call>{F}</tool_call>", ["<|tool_call|>no ", CALLED_F]),
    # Of several values those that are no calls are text.
    (f'<|tool_call|>[{{"x": 1}}, {F}, {{"y": 2}}', ['{"x": 1}', CALLED_F, '{"y": 2}']),
    (f'<|tool_call|>[{F}, {{"y": ', [CALLED_F, '{"y": ']),
    ('<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}', [("f", r'{"a": "x\ny"}')]),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), CALLS)
def test_calls_are_found_whole_and_in_pieces(
    answer: str, expected: list[str | tuple[str, str]]
) -> None:
    assert read([answer]) == expected
    assert read(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n ",
        "Just text.",
        "a < b, a <| b, functools and functools [f]",
        "functools[]",
        "<|tool_call|>[]<|/tool_call|>",
        '<|tool_call|>[{"name": "unknown", "arguments": {}}]<|/tool_call|>',
        '<|tool_call|>[{"name": "f", "arguments": []}]<|/tool_call|>',
        '<|tool_call|>[{"name": "f", "arguments": "{}"}]<|/tool_call|>',
        '<|tool_call|>[{"name": "f"}]<|/tool_call|>',
        '<|tool_call|>[{"name": "f", "arguments": {"a": NaN}}]<|/tool_call|>',
        '<|tool_call|>[{"name": "f", "arguments": {"a": 1e999}}]<|/tool_call|>',
        r'<|tool_call|>[{"name": "f", "arguments": {"a": "\ud800"}}]<|/tool_call|>',
        '<|tool_call|>[{"name": ["f"], "arguments": {}}]<|/tool_call|>',
        # The definition of the tool, echoed.
        '<|tool_call|>[{"name": "f", "description": "x", "parameters": {}}]<|/tool_call|>',
        "<|tool_call|>[{'name': 'f', 'arguments': {}}]<|/tool_call|>",
        "<|tool_call|>I call f.<|/tool_call|>",
        '<|tool_call|>[{"name": "f", "argum',
        "<|tool_call|>[",
        "<tool_call>\n" + "{" * 3000,
        '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 2900 + "1" + "}" * 2901,
        '{"answer": 42}',
        "[1, 2, 3]",
        '["a", "b"]',
        '{"name": "Ann", "age": 3}',
        '{"name": "unknown", "arguments": {}}',
        f"Look: {F}",
        f"```json\n{F}\n```",
    ],
)
def test_what_is_no_call_stays_as_it_was(answer: str) -> None:
    expected = [answer] if answer else []

    assert read([answer]) == expected
    assert read(answer) == expected


def held_of(answer: str) -> str:
    """Return what is held back after `answer`."""
    told = "".join(piece for piece in reader().feed(answer) if isinstance(piece, str))
    return answer[len(told) :]


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        ("Text flows at once", ""),
        ("a <", "<"),
        ("a <|tool", "<|tool"),
        ("a <tools", ""),
        ("call func", "func"),
        ("functional", ""),
        ("  ", "  "),
        ("{", "{"),
        ('{"na', '{"na'),
        ('{"name": "get_', '{"name": "get_'),
        ('{"name": "go', ""),
        ('{"no', ""),
        ("[", "["),
        ("[1", ""),
        ('["', ""),
        ("a {", ""),
        ("<tool_call>\n", "<tool_call>\n"),
        ("<tool_call>no", ""),
        ("<|tool_call|>[]<|/tool", "<|tool_call|>[]<|/tool"),
    ],
)
def test_text_waits_only_while_it_may_become_a_call(answer: str, held: str) -> None:
    assert held_of(answer) == held


def test_a_call_is_told_as_soon_as_it_is_complete() -> None:
    found = reader()

    assert found.feed(f"<|tool_call|>[{F[:-1]}") == []
    assert found.feed("}") == [ToolCall(id="c1", name="f", arguments='{"a": 1}')]
    assert found.feed(f", {G}") == [ToolCall(id="c2", name=CALLED_G[0], arguments=CALLED_G[1])]
    assert found.feed("]<|/tool_c") == found.feed("all|>") == found.finish() == []


def test_what_is_held_back_is_bounded() -> None:
    for beginning in ('<tool_call>{"name": "', f"<tool_call>{F}" + '{"name": "', " "):
        found = reader()
        text = beginning + (" " if beginning == " " else "a ") * MOST_HELD_CHARS
        told = joined(
            piece for i in range(0, len(text), 7) for piece in found.feed(text[i : i + 7])
        )
        held = joined(found.finish())

        assert sum(map(len, held)) < 16
        whole = "".join(piece for piece in (*told, *held) if isinstance(piece, str))
        assert whole == text.removeprefix(f"<tool_call>{F}")


PARTS = st.sampled_from(
    [*TAGS, "functools", *'[], \n{}"\\a<', F, G, json.dumps(F)]
)  # fmt: skip


@given(st.lists(PARTS, max_size=12), st.data())
def test_pieces_make_no_difference(parts: list[str], data: st.DataObject) -> None:
    answer = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    ends = zip([0, *cuts], [*cuts, len(answer)], strict=True)

    assert read([answer[start:end] for start, end in ends]) == read([answer])


@given(st.lists(PARTS, max_size=12))
def test_an_answer_without_calls_is_told_unchanged(parts: list[str]) -> None:
    answer = "".join(parts)
    told = read([answer])

    if all(isinstance(piece, str) for piece in told):
        assert told == ([answer] if answer else [])
    assert {piece[0] for piece in told if isinstance(piece, tuple)} <= set(NAMES)
