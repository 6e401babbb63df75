"""From tokens to text and calls, with stop strings, forced beginnings and an only call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.messages import ToolCall
from edge_agent.text.answer_text import AnswerText, Offer
from tests.calls.test_reader import CALLED_F, CALLED_G, F, G, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN, CLOSE = 7, 8
TAGS = {OPEN: b"<|tool_call|>", CLOSE: b"<|/tool_call|>"}
OFFER = Offer(names=["f", "get_weather"], tags=TAGS)


def told(answer: AnswerText, tokens: Iterable[int | str]) -> list[str | tuple[str, str]]:
    """Feed tokens, ids of tags or texts, to their end."""
    pieces = []
    for token in tokens:
        is_tag = isinstance(token, int)
        pieces += answer.feed(
            token if isinstance(token, int) else 1, b"" if is_tag else str(token).encode()
        )
        if answer.is_enough:
            break
    return joined([*pieces, *answer.finish()])


def test_without_an_offer_all_is_text_but_control_tokens() -> None:
    answer = AnswerText()

    assert told(answer, ["a", OPEN, f"[{F}]", CLOSE, "<tool_call>"]) == [f"a[{F}]<tool_call>"]
    assert answer.num_calls == 0


def test_tags_come_as_tokens() -> None:
    answer = AnswerText(offer=OFFER)

    assert told(answer, ["I look.", OPEN, f"[{F},", f" {G}]", CLOSE]) == [
        "I look.", CALLED_F, CALLED_G,
    ]  # fmt: skip
    assert answer.num_calls == 2


def test_each_call_has_an_id_of_its_own() -> None:
    pieces = AnswerText(offer=OFFER).feed(1, f"<tool_call>{F}{F}".encode())
    ids = [piece.id for piece in pieces if isinstance(piece, ToolCall)]

    assert len(set(ids)) == 2
    assert all(id_.startswith("call_") and len(id_) == 29 for id_ in ids)


def test_what_is_no_call_is_told_with_its_tags() -> None:
    assert told(AnswerText(offer=OFFER), [OPEN, '[{"name": "x"}]', CLOSE]) == [
        '<|tool_call|>[{"name": "x"}]<|/tool_call|>'
    ]


def test_a_forced_beginning_is_part_of_the_call() -> None:
    offer = Offer(names=["f"], tags=TAGS, opening='<|tool_call|>[{"name": "f", "arguments":')

    assert told(AnswerText(offer=offer), [' {"a"', ": 1}}]", CLOSE]) == [CALLED_F]
    assert told(AnswerText(offer=offer), [" no"]) == [f"{offer.opening} no"]
    assert told(AnswerText(offer=offer), []) == [offer.opening]


def test_a_forced_beginning_that_is_text_at_once_is_told_once() -> None:
    offer = Offer(names=["f"], opening="Sure: ")

    assert told(AnswerText(offer=offer), ["a", "b"]) == ["Sure: ab"]
    assert told(AnswerText(offer=offer), []) == ["Sure: "]


def test_an_only_call_ends_the_answer() -> None:
    answer = AnswerText(offer=Offer(names=OFFER.names, tags=TAGS, many=False))

    assert told(answer, [OPEN, f"[{F}, {G}", ", ", CLOSE, "x"]) == [CALLED_F]
    assert answer.is_enough


def test_a_stop_string_ends_the_answer_and_what_came_before_it_is_told() -> None:
    answer = AnswerText(stop=["STOP"], offer=OFFER)

    assert told(answer, [OPEN, '[{"name": "f"', " STOP"]) == ['<|tool_call|>[{"name": "f" ']
    assert answer.stopped_by == "STOP"


def test_a_character_over_several_tokens_comes_whole_into_a_call() -> None:
    answer = AnswerText(offer=OFFER)
    data = G.encode()
    cut = data.index("ö".encode()) + 1
    pieces = [*answer.feed(OPEN, b""), *answer.feed(1, data[:cut]), *answer.feed(2, data[cut:])]

    assert joined(pieces) == [CALLED_G]
