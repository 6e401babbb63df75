"""Learns how long steps take, and sizes the chunk that is read beside running answers by it.

Answers may be slowed down to a part of their pace on average, not in each step: a chunk takes some
steps' time at once, and steps without one follow until that is paid back. A few tokens in each step
would keep an even pace, but kernels that are made for one row can take twice as long for two, and
hardly longer for twenty.

A step takes about as long as its number of answers takes without a chunk, and a fixed time more for
each token of a prompt. Both are learned from the engine's own clock, so a slower machine, a longer
context or a neighbour are learned too. What decoding takes alone is measured and not inferred:
while prompts are read beside answers, every so often a step goes without a chunk anyway.

Not `step_costs`, by which drafts are weighed: there every step moves the expectation of all others,
as a ratio of costs needs no more. Here a debt is added up over many steps, and what chunks teach of
decoding would bend it: on some machines answers then lose more than they may, or prompts wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The newest step counts a fifth: after a dozen or so, what was before is forgotten.
_WEIGHT = 0.2
# One step may wait for a disk or a neighbour; it does not change what is expected by more.
_OUTLIER = 2.0
# A chunk delays running answers by so many times what they may lose in a step: on the slowest board
# a second, and enough tokens that those which follow the first cost little.
_STEPS_AT_ONCE = 4
# A step in so many is given to measure decoding alone: a thirtieth of the reading.
_MEASURED_EVERY = 32
# Before any prompt was timed alone: enough to time one, and short.
_FIRST_CHUNK = 16
# The resolution of the clock: a time of 0 would never rise again, and is divided by.
_LEAST_S = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What steps take, in seconds; nothing is known at first."""

    decode_step_s: Mapping[int, float] = field(default_factory=dict)
    """Of steps without a chunk, by the number of answers; with the drafts that they verify."""
    prompt_token_s: float | None = None
    """What a token of a prompt adds to a step."""
    unmeasured: int = 0
    """Steps with answers since the last one that only decoded."""
    owed_s: float = 0.0
    """What chunks took from running answers, and steps without one have not paid back yet."""

    def decode_s(self, answers: int) -> float | None:
        """Return what a step takes that only decodes; None if that cannot be told.

        Where that number was not seen it is what the next smaller one takes: more never take less.
        """
        known = [number for number in self.decode_step_s if number <= answers]
        return self.decode_step_s[max(known)] if known else None

    def after(self, *, answers: int, prompt_tokens: int, took_s: float, kept_pace: float) -> Pace:
        """Return what is known after a step of so many decoding rows and tokens of prompts.

        `kept_pace` is the part of their pace that answers keep, on average.
        """
        learned = self._learned(answers=answers, prompt_tokens=prompt_tokens, took_s=took_s)
        alone_s = learned.decode_s(answers)
        if alone_s is None or not kept_pace:
            return replace(learned, owed_s=0.0)
        lost_s = took_s - alone_s if prompt_tokens else 0.0
        return replace(
            learned, owed_s=max(0.0, self.owed_s + lost_s - _spare_s(alone_s, kept_pace))
        )

    def _learned(self, *, answers: int, prompt_tokens: int, took_s: float) -> Pace:
        if not prompt_tokens:
            before = self.decode_step_s.get(answers)
            learned = {**self.decode_step_s, answers: _moved(before, took_s)}
            return replace(self, decode_step_s=learned, unmeasured=0)
        alone_s = self.decode_s(answers) if answers else 0.0
        if alone_s is None:
            return replace(self, unmeasured=self.unmeasured + 1)
        token_s = (took_s - alone_s) / prompt_tokens
        return replace(
            self,
            prompt_token_s=_moved(self.prompt_token_s, token_s),
            unmeasured=self.unmeasured + bool(answers),
        )


def room_for_prompts(pace: Pace, *, answers: int, chunk_tokens: int, kept_pace: float) -> int:
    """Return how many tokens of prompts, up to `chunk_tokens`, a step may compute.

    Beside `answers` they may take so long that those keep `kept_pace` of their pace, one token at
    least. 0 while the last chunk is paid back, and where decoding has to be measured first.
    """
    if not answers or not kept_pace:
        return chunk_tokens
    alone_s = pace.decode_s(answers)
    if alone_s is None or pace.unmeasured >= _MEASURED_EVERY or pace.owed_s > 0:
        return 0
    if pace.prompt_token_s is None:
        return min(chunk_tokens, _FIRST_CHUNK)
    most_s = _STEPS_AT_ONCE * _spare_s(alone_s, kept_pace)
    return max(1, min(chunk_tokens, int(most_s / pace.prompt_token_s)))


def _spare_s(alone_s: float, kept_pace: float) -> float:
    """Return what prompts may take of a step that takes `alone_s` without them."""
    return alone_s * (1 / kept_pace - 1)


def _moved(before: float | None, seen: float) -> float:
    """Return an average that `seen` moves, within bounds; it never reaches 0."""
    if before is None:
        return max(seen, _LEAST_S)
    within = min(max(seen, before / _OUTLIER), before * _OUTLIER)
    return max(before + _WEIGHT * (within - before), _LEAST_S)
