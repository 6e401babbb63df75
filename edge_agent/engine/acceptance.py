"""How often guesses come true, by how many tokens before them agreed. Pure.

Every guess is judged by the token that came instead, whether it was computed as a draft or not:
to know that drafts would not help costs nothing.
"""

from __future__ import annotations

from bisect import bisect_right

# Classes of agreed tokens begin here; and how often a guess came true over answers of
# SmolLM2-135M to extraction, editing and free questions, greedy and at temperature 0.7.
_PRIOR = {1: 0.15, 2: 0.5, 3: 0.55, 4: 0.65, 6: 0.75, 9: 0.85, 16: 0.9}
_CLASSES = tuple(_PRIOR)
# What other answers showed counts as much as so many guesses of this one.
_PRIOR_GUESSES = 4.0
# An answer turns from copying to telling within some ten tokens; what it was is soon forgotten.
_ANSWER_MEMORY_GUESSES = 16.0
# The kinds of requests that a gateway gets change within hours, not within one answer.
_ENGINE_MEMORY_GUESSES = 500.0


class Acceptance:
    """Chances of guesses, of one answer or, as what its answers begin with, of an engine."""

    def __init__(self, before: Acceptance | None = None) -> None:
        """Begin with what `before` knows, and let it know what comes to be known here."""
        self._before = before
        self._came_true = [0.0] * len(_CLASSES)
        self._guesses = [0.0] * len(_CLASSES)
        memory = _ANSWER_MEMORY_GUESSES if before else _ENGINE_MEMORY_GUESSES
        self._fade = 1 - 1 / memory

    def chance(self, match_tokens: int) -> float:
        """Return how likely a guess comes true that `match_tokens` tokens agree with, at least 1.

        That of later tokens of a guess is the chance after the ones before them came true.
        """
        number = _class_of(match_tokens)
        before = self._before.chance(match_tokens) if self._before else _PRIOR[_CLASSES[number]]
        came_true = self._came_true[number] + _PRIOR_GUESSES * before
        return came_true / (self._guesses[number] + _PRIOR_GUESSES)

    def note(self, match_tokens: int, *, came_true: bool) -> None:
        """Learn whether a guess that `match_tokens` tokens agreed with came true."""
        number = _class_of(match_tokens)
        self._guesses[number] = self._guesses[number] * self._fade + 1
        self._came_true[number] = self._came_true[number] * self._fade + came_true
        if self._before:
            self._before.note(match_tokens, came_true=came_true)


def _class_of(match_tokens: int) -> int:
    return bisect_right(_CLASSES, match_tokens) - 1
