"""Reads the history of a run and names everything that must not happen. Pure, after the fact.

The rules: what was sent is answered, and what was accepted all the more; one distinct terminal
message per id; deltas count from 0 in each attempt and join to the result; attempts only rise;
nothing comes for ids that were never sent; no text belongs to another id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from tests.chaos.history import Accepted, Delta, Final, Outage, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.chaos.history import Entry

    # Tells whether a text is the answer to an id: all of it, or (third argument False) its start.
    Judge = Callable[[str, str, bool], bool]


def violations(history: Sequence[Entry], is_answer: Judge) -> list[str]:
    """Return one line for every broken rule; an empty list is a good history."""
    checker = _Checker(is_answer)
    found = [problem for entry in history for problem in checker.take(entry)]
    return found + list(checker.conclude())


def explained(history: Sequence[Entry], problems: Sequence[str]) -> str:
    """Return each problem with all that was heard of its id, numbered as in the history."""
    lines: list[str] = []
    for problem in problems:
        name = problem.split(":")[0]
        mine = [
            f"  {number} {entry}"
            for number, entry in enumerate(history)
            if isinstance(entry, Outage) or entry.id == name
        ]
        lines += [problem, *mine]
    return "\n".join(lines)


@dataclass(slots=True)
class _Story:
    """What is known of one id so far."""

    stream: bool
    outages: int
    """As many there had been when this answer was last heard of."""
    is_accepted: bool = False
    attempt: int = 0
    next_seq: int = 0
    is_whole: bool = True
    """All deltas of this attempt were heard."""
    pieces: list[str] = field(default_factory=list)
    final: Final | None = None


class _Checker:
    def __init__(self, is_answer: Judge) -> None:
        self._is_answer = is_answer
        self._stories: dict[str, _Story] = {}
        self._outages = 0

    def take(self, entry: Entry) -> Iterator[str]:
        if isinstance(entry, Outage):
            self._outages += 1
        elif isinstance(entry, Sent):
            self._stories.setdefault(entry.id, _Story(entry.stream, self._outages))
        elif story := self._stories.get(entry.id):
            yield from self._heard(story, entry)
        else:
            yield f"{entry.id}: heard of, but never sent"

    def conclude(self) -> Iterator[str]:
        for name, story in self._stories.items():
            if story.final is None:
                yield f"{name}: {'accepted and lost' if story.is_accepted else 'never answered'}"

    def _heard(self, story: _Story, entry: Accepted | Delta | Final) -> Iterator[str]:
        match entry:
            case Accepted():
                story.is_accepted = True
            case Delta():
                yield from self._delta(story, entry)
            case Final():
                if story.final is None:
                    yield from self._final(story, entry)
                    story.final = entry
                elif story.final.body != entry.body:
                    yield f"{entry.id}: two different terminal messages"
            case _:
                assert_never(entry)

    def _delta(self, story: _Story, entry: Delta) -> Iterator[str]:
        if story.final:
            yield f"{entry.id}: a delta after the terminal message"
            return
        if not story.stream:
            yield f"{entry.id}: a delta that nobody asked for"
        yield from self._reach(story, entry, entry.seq)
        story.next_seq += 1
        story.pieces.append(entry.text)
        if story.is_whole and not self._is_answer(entry.id, "".join(story.pieces), False):
            yield f"{entry.id}: attempt {entry.attempt} says what is not its answer"

    def _final(self, story: _Story, entry: Final) -> Iterator[str]:
        yield from self._reach(story, entry, entry.seq)
        if entry.text is None:
            return
        if entry.seq and story.is_whole and "".join(story.pieces) != entry.text:
            yield f"{entry.id}: the deltas do not join to the result"
        if not self._is_answer(entry.id, entry.text, True):
            yield f"{entry.id}: the result is not its answer"

    def _reach(self, story: _Story, entry: Delta | Final, seq: int) -> Iterator[str]:
        """Move on to message `seq` of the entry's attempt; what is left out needs an outage."""
        if entry.attempt < story.attempt:
            yield f"{entry.id}: attempt {entry.attempt} after attempt {story.attempt}"
        if entry.attempt != story.attempt:
            story.attempt, story.next_seq, story.is_whole = entry.attempt, 0, True
            story.pieces.clear()
        if seq != story.next_seq:
            if seq < story.next_seq or story.outages == self._outages:
                yield f"{entry.id}: message {seq} where {story.next_seq} was due"
            story.next_seq, story.is_whole = seq, False
        story.outages = self._outages
