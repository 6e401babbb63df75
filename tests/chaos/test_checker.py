"""The checker finds what is wrong with a history, and nothing in a good one."""

from __future__ import annotations

import pytest

from tests.chaos.checker import violations
from tests.chaos.history import Accepted, Delta, Entry, Final, Outage, Sent

ANSWERS = {"a": "one two", "b": "three"}


def final(name: str, text: str | None, *, attempt: int = 1, seq: int = 0, body: str = "") -> Final:
    return Final(name, attempt, seq, (body or f"{name}{text}{attempt}{seq}").encode(), text)


def is_answer(name: str, text: str, is_all: bool) -> bool:
    return ANSWERS[name] == text if is_all else ANSWERS[name].startswith(text)


SENT: list[Entry] = [Sent("a", stream=True), Sent("b", stream=False)]
STREAMED: list[Entry] = [
    *SENT,
    Accepted("a"),
    Delta("a", 1, 0, "one"),
    Accepted("b"),
    final("b", "three"),
    Delta("a", 1, 1, " two"),
    final("a", "one two", seq=2),
]
CRASHED: list[Entry] = [
    *SENT,
    Accepted("a"),
    Delta("a", 1, 0, "one"),
    final("b", "three"),
    Delta("a", 2, 0, "one"),
    Delta("a", 2, 1, " two"),
    final("a", "one two", attempt=2, seq=2),
]
CUT: list[Entry] = [
    *SENT,
    Accepted("a"),
    Outage(),
    Sent("a", stream=True),
    Accepted("a"),
    Delta("a", 1, 1, " two"),
    final("b", "three"),
    final("a", "one two", seq=2),
]


@pytest.mark.parametrize(
    "history",
    [
        STREAMED,
        CRASHED,
        CUT,
        [*STREAMED, STREAMED[-1], Outage(), Sent("a", stream=True), STREAMED[-1]],
        [*STREAMED[:-2], Outage(), final("a", "one two", seq=2)],
    ],
    ids=["streamed", "a second attempt", "deltas cut off", "repeated", "the end cut off"],
)
def test_a_good_history_passes(history: list[Entry]) -> None:
    assert violations(history, is_answer) == []


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        (STREAMED[:-1], "a: accepted and lost"),
        (SENT[:1], "a: never answered"),
        ([*STREAMED, final("a", "one two", attempt=2)], "a: two different terminal messages"),
        ([*STREAMED, final("b", "three", body="other")], "b: two different terminal messages"),
        ([*STREAMED, Accepted("c")], "c: heard of, but never sent"),
        ([*STREAMED, final("c", "x")], "c: heard of, but never sent"),
        ([*STREAMED, Delta("a", 1, 2, "!")], "a: a delta after the terminal message"),
        ([*SENT[1:], Delta("b", 1, 0, "three"), final("b", "three", seq=1)],
         "b: a delta that nobody asked for"),
        ([*SENT[1:], final("b", "one two")], "b: the result is not its answer"),
        ([*SENT[:1], Delta("a", 1, 0, "three"), final("a", "one two", attempt=2)],
         "a: attempt 1 says what is not its answer"),
        ([*SENT[:1], Delta("a", 2, 0, "one"), final("a", "one two", attempt=1)],
         "a: attempt 1 after attempt 2"),
        ([*STREAMED[:-2], final("a", "one two", seq=2)], "a: message 2 where 1 was due"),
        ([*SENT[:1], Delta("a", 1, 1, " two"), final("a", "one two", seq=2)],
         "a: message 1 where 0 was due"),
        ([*SENT[:1], Delta("a", 1, 0, "one"), Outage(), Delta("a", 1, 0, "one")],
         "a: message 0 where 1 was due"),
        ([*SENT[:1], Delta("a", 1, 0, "one"), final("a", "one two", seq=1)],
         "a: the deltas do not join to the result"),
    ],
    ids=["lost", "unanswered", "doubled attempt", "doubled bytes", "accepted stranger",
         "answered stranger", "after the end", "unasked", "mixed result", "mixed delta",
         "attempt falls", "last delta missing", "first delta missing", "delta twice",
         "does not join"],
)  # fmt: skip
def test_a_bad_history_is_told(history: list[Entry], problem: str) -> None:
    assert problem in violations(history, is_answer)
