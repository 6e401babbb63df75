"""Decides how many drafts a step verifies: those that raise the tokens expected in a second. Pure.

A step that verifies drafts takes longer and brings one token for sure, as a plain step does, and
one more for each draft that comes true. How likely they are, each answer has learned; how much
longer it takes, the engine.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from edge_agent.engine.acceptance import Acceptance
from edge_agent.engine.step_costs import StepCosts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge_agent.engine.scheduler.plan import Work

    Chances = Sequence[float]
    """For each draft on offer, in order, the chance that it and all before it come true."""
    Seconds = Callable[[int], float]
    """The expected seconds of a step by its number of tokens."""

# The best of several estimates is seldom as good as it looks; drafts that promise less are left.
_LEAST_GAIN = 1.03
# What a step with drafts costs is learned by taking one, also where it does not seem to pay: such
# trials may cost this share of the time.
_TRIAL_SHARE = 0.005
# Enough for the dearest trial there is; more would let trials come in bunches.
_MOST_SAVED_STEPS = 8.0
# A draft with less chance than that teaches at the price of a whole step.
_LEAST_TRIAL_CHANCE = 0.05


class Speculation:
    """The drafts of all answers of one engine, step by step."""

    def __init__(self, most_drafts: int) -> None:
        """Verify at most `most_drafts` tokens of each answer in a step."""
        self.most_drafts = most_drafts
        self.drafted = 0
        """Tokens that were computed as drafts, since the start."""
        self.accepted = 0
        """Those of them that came true."""
        self.acceptance = Acceptance()
        """What all answers share of how often guesses come true."""
        self._costs = StepCosts()
        self._saved_s = 0.0

    def widen(self, work: Sequence[Work], offers: Mapping[int, Chances]) -> tuple[Work, ...]:
        """Return `work` with drafts: their number is added to the one token of decoding slots.

        `offers` are by slot and hold every slot that decodes, also those without a draft.
        """
        slots = [item.slot for item in work if item.slot in offers]
        is_timed = self._costs.seconds(1) > 0
        if not is_timed or not any(offers[slot] for slot in slots):
            return tuple(work)
        num_tokens = sum(item.num_tokens for item in work)
        granted = dict(zip(slots, self._grant([offers[s] for s in slots], num_tokens), strict=True))
        return tuple(
            replace(item, num_tokens=item.num_tokens + granted.get(item.slot, 0)) for item in work
        )

    def note_step(self, *, tokens: int, has_prompt: bool, seconds: float) -> None:
        """Learn that a step of `tokens` tokens, those of prompts too, took `seconds`."""
        self._costs.note(tokens, seconds)
        if not has_prompt:
            most_s = _MOST_SAVED_STEPS * self._costs.seconds(tokens)
            self._saved_s = min(self._saved_s + _TRIAL_SHARE * seconds, most_s)

    def note_drafts(self, *, drafted: int, accepted: int) -> None:
        """Count the drafts of one answer in one step."""
        self.drafted += drafted
        self.accepted += accepted

    def _grant(self, offers: Sequence[Chances], num_tokens: int) -> list[int]:
        """Return how many drafts of each offer a step of else `num_tokens` tokens verifies."""
        seconds = self._costs.seconds
        gains = gains_of(offers)
        best = most_worth(gains, answers=len(offers), step_tokens=num_tokens, seconds=seconds)
        if best == 0:
            best = self._trial(gains, answers=len(offers), num_tokens=num_tokens)
        return share_out(offers, best)

    def _trial(self, gains: Sequence[float], *, answers: int, num_tokens: int) -> int:
        """Return the most promising number of drafts if there is time for a trial, else 0."""
        seconds = self._costs.seconds
        if gains[1] < _LEAST_TRIAL_CHANCE or num_tokens > answers:
            return 0  # beside a prompt nothing would be learned of the steps that matter
        number = max(
            range(1, len(gains)), key=lambda n: (answers + gains[n]) / seconds(answers + n)
        )
        # The time lost: more seconds than the tokens that came true would have taken.
        token_s = seconds(answers) / answers
        lost_s = seconds(answers + number) - (answers + gains[number]) * token_s
        lost_s = max(lost_s, _TRIAL_SHARE * token_s)
        if lost_s > self._saved_s:
            return 0
        self._saved_s -= lost_s
        return number


def gains_of(offers: Sequence[Chances]) -> list[float]:
    """Return the most tokens expected of 0, 1, 2, … drafts, whosever they are."""
    chances = sorted((chance for offer in offers for chance in offer), reverse=True)
    return list(accumulate(chances, initial=0.0))


def most_worth(gains: Sequence[float], *, answers: int, step_tokens: int, seconds: Seconds) -> int:
    """Return the number of drafts by which a step is worth most.

    A token is worth the time it takes at the best pace there is while no prompt is read: beside a
    prompt steps are slow anyway, and by tokens in a second alone any draft would seem to pay.
    """
    counts = range(len(gains))
    pace = max((answers + gains[n]) / seconds(answers + n) for n in counts)

    def worth(n: int) -> float:
        """Return tokens less those that the seconds would have brought otherwise."""
        return gains[n] - pace * (seconds(step_tokens + n) - seconds(step_tokens))

    best = max(counts, key=worth)
    least = (_LEAST_GAIN - 1) * pace * seconds(answers)
    return best if worth(best) >= least else 0


def share_out(offers: Sequence[Chances], count: int) -> list[int]:
    """Return how many of the `count` best drafts are of each offer.

    Chances within an offer never rise, so the best of it are its first.
    """
    ranked = sorted((-chance, number) for number, offer in enumerate(offers) for chance in offer)
    chosen = [number for _, number in ranked[:count]]
    return [chosen.count(number) for number in range(len(offers))]
