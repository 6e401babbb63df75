"""The drafts of one answer: guessed tokens, and the chance of each to be the answer's own. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edge_agent.engine.acceptance import Acceptance
from edge_agent.engine.lookup import LONGEST_MATCH, Guess, PromptLookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Drafter:
    """Offers drafts before each step and learns from each token that is chosen."""

    def __init__(self, prompt: Iterable[int], experience: Acceptance) -> None:
        """`experience` is what the answers of this engine share."""
        self._lookup = PromptLookup(prompt)
        self._acceptance = Acceptance(experience)
        self._guessed: deque[int] = deque()
        self._match_tokens = 0

    def offer(self, most_tokens: int) -> Sequence[int]:
        """Return at most `most_tokens` tokens that may come next; they replace the last offer."""
        guess = self._lookup.guess(most_tokens) if most_tokens > 0 else Guess()
        self._guessed = deque(guess.tokens)
        self._match_tokens = guess.match_tokens
        return guess.tokens

    def chances(self) -> list[float]:
        """Return for each token on offer the chance that it and all before it come true."""
        chances: list[float] = []
        so_far = 1.0
        for place in range(len(self._guessed)):
            so_far *= self._acceptance.chance(self._match_tokens + place)
            chances.append(so_far)
        return chances

    def learn(self, token: int) -> None:
        """Know that `token` came next; what is on offer is judged by it, computed or not."""
        if self._guessed:
            came_true = self._guessed.popleft() == token
            self._acceptance.note(self._match_tokens, came_true=came_true)
            self._match_tokens = min(self._match_tokens + 1, LONGEST_MATCH)
            if not came_true:
                self._guessed.clear()
        self._lookup.add(token)
