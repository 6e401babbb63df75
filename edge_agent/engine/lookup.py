"""Guesses what comes next from what came before: prompt lookup. Pure, one for each answer.

Where the last tokens stood earlier in prompt or answer, what followed them then is the guess.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of the places where the last tokens stood, so many are looked at, the latest first: in 24 answers
# to extraction, editing and free questions more of them found nothing longer.
_MOST_PLACES = 8
# Two places that agree for so long are as good as each other.
LONGEST_MATCH = 16
# Ids are smaller, so a pair of them is one number.
_ID_BITS = 32


@dataclass(frozen=True, slots=True)
class Guess:
    """What may come next, and the number of tokens before it that made us think so."""

    tokens: tuple[int, ...] = ()
    match_tokens: int = 0


class PromptLookup:
    """Every token of one prompt and its answer, found again by the two tokens that end there.

    Takes about 120 bytes for each token. A place found earlier is followed for as long as it goes
    on to be right; otherwise places with the same last two tokens are compared, or if there are
    none, the last place of the one token.
    """

    def __init__(self, prompt: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._last_single: dict[int, int] = {}
        self._last_pair: dict[int, int] = {}
        # For the pair that ends at each token, where it ended before; -1: nowhere.
        self._pair_before = array("i")
        self._single_before = -1
        self._followed = -1
        self._followed_tokens = 0
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        """Append `token`."""
        at = len(self._tokens)
        self._follow(token)
        pair_before = -1
        if at:
            pair = self._tokens[-1] << _ID_BITS | token
            pair_before = self._last_pair.get(pair, -1)
            self._last_pair[pair] = at
        self._pair_before.append(pair_before)
        self._single_before = self._last_single.get(token, -1)
        self._last_single[token] = at
        self._tokens.append(token)

    def guess(self, most_tokens: int) -> Guess:
        """Return up to `most_tokens` tokens that may come next; none if nothing came before."""
        if self._followed < 0 or self._followed_tokens < LONGEST_MATCH:
            self._find()
        if self._followed < 0:
            return Guess()
        start = self._followed + 1
        found = self._tokens[start : start + most_tokens]
        # Near the end the guess goes on in itself: what repeats goes on repeating.
        period = len(found)
        while len(found) < most_tokens:
            found.append(found[len(found) - period])
        return Guess(tuple(found), self._followed_tokens)

    def _follow(self, token: int) -> None:
        if self._followed < 0:
            return
        if self._tokens[self._followed + 1] == token:
            self._followed += 1
            self._followed_tokens = min(self._followed_tokens + 1, LONGEST_MATCH)
        else:
            self._followed, self._followed_tokens = -1, 0

    def _find(self) -> None:
        """Follow the place that agrees with the end for longest, the latest of such."""
        place = self._pair_before[-1] if self._tokens else -1
        for _ in range(_MOST_PLACES):
            if place < 0:
                break
            agreed = self._agreed(place)
            if agreed > self._followed_tokens:
                self._followed, self._followed_tokens = place, agreed
            if agreed == LONGEST_MATCH:
                break
            place = self._pair_before[place]
        if self._followed < 0 <= self._single_before:
            self._followed, self._followed_tokens = self._single_before, 1

    def _agreed(self, place: int) -> int:
        """Return how many tokens that end at `place` are the last ones, `LONGEST_MATCH` at most."""
        tokens = self._tokens
        end = len(tokens) - 1
        most = min(LONGEST_MATCH, place + 1)
        return next((n for n in range(most) if tokens[place - n] != tokens[end - n]), most)
