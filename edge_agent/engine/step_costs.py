"""What a step costs, by the number of its tokens: learned from the steps that were taken. Pure.

A step reads all weights once, however few its tokens; how much more each further token costs
depends on the kernels, the bits of the weights and the processor, so it is measured and not known.
"""

from __future__ import annotations

import math
from bisect import bisect_left

# Tokens in a step, and its cost in steps of one token: 4-bit weights in blocks of 128 with 8-bit
# activations on two cores (Phi-4-mini's shape). Other models and machines differ by up to three
# times, which a few steps of each kind correct.
_PRIOR = {
    1: 1.0, 2: 1.15, 3: 1.35, 4: 1.55, 5: 1.75, 6: 1.95, 7: 2.15, 8: 2.35, 12: 3.1, 16: 4.0,
    24: 6.0, 32: 7.5, 48: 11.0, 64: 14.0, 96: 20.0, 128: 26.0, 256: 52.0, 512: 105.0, 1024: 215.0,
}  # fmt: skip
_KNOTS = tuple(_PRIOR)
# The whole machine speeds up and slows down within seconds; ten steps follow it.
_PACE_RATE = 0.1
# How one number of tokens compares with another hardly changes.
_SHAPE_RATE = 0.1
# A neighbour that takes the processor makes single steps ten times as long; they tell little.
_MOST_SURPRISE = math.log(2)
# What is assumed beforehand counts as much as so many steps of a kind.
_PRIOR_STEPS = 1


class StepCosts:
    """Expected seconds of a step by its number of tokens, of all rows together.

    The estimate is a pace (a step of one token) times a shape (costs relative to that, between
    knots on straight lines). All steps move the pace, those near a knot the shape there.
    """

    def __init__(self) -> None:
        self._pace_s = 0.0
        self._shape = list(_PRIOR.values())
        self._seen = [0] * len(_KNOTS)

    def seconds(self, tokens: int) -> float:
        """Return what a step of `tokens` tokens is expected to take; 0 before the first step."""
        return self._pace_s * self._relative(tokens)

    def note(self, tokens: int, seconds: float) -> None:
        """Learn that a step of `tokens` tokens took `seconds`; no time at all tells nothing."""
        if seconds <= 0:
            return
        if not self._pace_s:
            self._pace_s = seconds / self._relative(tokens)
        surprise = math.log(seconds / self.seconds(tokens))
        surprise = min(max(surprise, -_MOST_SURPRISE), _MOST_SURPRISE)
        knot = _nearest(tokens)
        self._seen[knot] += 1
        # The first knot is the unit of all others. One that is hardly known yet explains a surprise
        # by itself; one that is well known shares it with the pace.
        rate = max(1 / (self._seen[knot] + _PRIOR_STEPS), _SHAPE_RATE) if knot else 0.0
        for follower in self._followers(knot):
            self._shape[follower] *= math.exp(rate * surprise)
        if rate <= _SHAPE_RATE:
            self._pace_s *= math.exp(_PACE_RATE * surprise)

    def _followers(self, knot: int) -> list[int]:
        """Return `knot`, just seen, and those never seen that are nearer to it than to any other.

        Kernels that are dear for two tokens are dear for three.
        """
        seen = [number for number, steps in enumerate(self._seen) if steps]
        return [
            number
            for number, steps in enumerate(self._seen)
            if number == knot
            or (not steps and number and min(seen, key=lambda other: abs(other - number)) == knot)
        ]

    def _relative(self, tokens: int) -> float:
        """Return the cost of `tokens` in steps of one; beyond the last knot all cost alike."""
        right = max(bisect_left(_KNOTS, tokens), 1)
        if right == len(_KNOTS):
            return self._shape[-1] * tokens / _KNOTS[-1]
        left = right - 1
        # More tokens never take less: what says so of fewer was disturbed.
        high = min(self._shape[right:])
        low = min(self._shape[left], high)
        share = (tokens - _KNOTS[left]) / (_KNOTS[right] - _KNOTS[left])
        return low + share * (high - low)


def _nearest(tokens: int) -> int:
    """Return the number of the knot next to `tokens`."""
    right = min(bisect_left(_KNOTS, tokens), len(_KNOTS) - 1)
    left = max(right - 1, 0)
    return left if tokens - _KNOTS[left] < _KNOTS[right] - tokens else right
