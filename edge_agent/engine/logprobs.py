"""Log-probabilities: of each chosen token, and of the likeliest tokens in its place.

They are the model's own, of the logits as they come: before bias, penalties and temperature, which
say what is wanted and not what is likely. So does vLLM by default (`logprobs_mode` is
"raw_logprobs"); OpenAI leaves it open.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.ranking import highest
from edge_agent.messages import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.engine.adjustments import Logits

    Spelled = tuple[str, bytes | None]
    """A token as text, and the bytes it adds to an answer; None for control tokens."""

# What stands for "never", as with OpenAI and vLLM: JSON has no infinity.
LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """That a request wants log-probabilities, and how to tell them."""

    num_top: int
    """How many of the likeliest tokens are told beside each chosen one."""
    spell: Callable[[int], Spelled]


class Unsaid:
    """The log-probabilities of one answer that wait for the text of their tokens.

    Text is held back while it may become a stop string, a call or another character; what belongs
    to a token goes out with its first character, whether told as text, part of a call, or dropped.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._entries: deque[tuple[int, TokenLogprob]] = deque()

    def note(self, token: int, logits: Logits, *, first_char: int) -> None:
        """Remember a chosen token whose text begins at character `first_char` of the answer.

        `logits` float32 [vocab] are those it was chosen from, as the model gave them.
        """
        self._entries.append((first_char, look(logits, token, self._asked)))

    def due(self, settled_chars: int) -> tuple[TokenLogprob, ...]:
        """Return those of tokens that begin within the first `settled_chars` characters."""
        due: list[TokenLogprob] = []
        while self._entries and self._entries[0][0] < settled_chars:
            due.append(self._entries.popleft()[1])
        return tuple(due)

    def rest(self) -> tuple[TokenLogprob, ...]:
        """Return all that are left: the answer is over."""
        rest = tuple(entry for _, entry in self._entries)
        self._entries.clear()
        return rest


def look(logits: Logits, token: int, asked: Asked) -> TokenLogprob:
    """Return the log-probability of `token` under softmax of `logits` float32 [vocab]."""
    top = logits.max()
    # Single precision for the powers is a tenth of the time; their sum is what needs more digits.
    mass = np.exp(logits - top).sum(dtype=np.float64)
    log_mass = float(top) + math.log(mass)

    def told(token: int, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        text, data = asked.spell(token)
        logprob = max(float(logits[token]) - log_mass, LEAST_LOGPROB)
        return TokenLogprob(text=text, logprob=logprob, data=data, top=top)

    return told(token, tuple(told(int(other)) for other in highest(logits, asked.num_top)))
