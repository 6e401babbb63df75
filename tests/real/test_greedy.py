"""The judge of answers given in company: what it lets pass, and what it does not."""

from __future__ import annotations

import pytest

from tests.real.greedy import Choice, may_be_answer, text_of

ANSWER = (
    Choice(b"The", b"A", 3.0),
    Choice(b" sky", b" sea", 0.05),
    Choice(b" is", b"", 0.08),
    Choice(b" bl", b" gr", 2.0),
    Choice(b"ue", b"ack", 1.0),
    Choice(b"", b"!", 0.1),
)


def test_the_answer_is_what_was_chosen() -> None:
    assert text_of(ANSWER) == "The sky is blue"
    assert text_of((*ANSWER[:1], Choice("é".encode()[:1], b"", 1.0))) == "The"


@pytest.mark.parametrize(
    "text", ["The sky is blue", "The sea is wide", "The sky", "The sky is blue! And so on"]
)
def test_the_same_or_parted_at_a_near_tie_passes(text: str) -> None:
    assert may_be_answer(text, ANSWER)


@pytest.mark.parametrize(
    "text",
    ["", "A sky is blue", "The sun is hot", "The sky is green", "The sky is", "The sky is black",
     "The sky is blue?", "Th"],
)  # fmt: skip
def test_anything_else_does_not(text: str) -> None:
    assert not may_be_answer(text, ANSWER)


@pytest.mark.parametrize("text", ["", "Th", "The sky is", "The se", "The sea is"])
def test_a_start_is_enough_where_more_may_come(text: str) -> None:
    assert may_be_answer(text, ANSWER, is_all=False)


@pytest.mark.parametrize("text", ["A", "The sky was", "The sun"])
def test_a_wrong_start_is_wrong(text: str) -> None:
    assert not may_be_answer(text, ANSWER, is_all=False)
