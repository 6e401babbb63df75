"""Chooses the next token from a row of logits. All options are settled before the decode loop.

The order is vLLM's: adjustments, temperature, top-k, top-p, min-p, then a draw from what is left.
The draw is Gumbel-max: every token of the vocabulary gets its own noise from the request's own
Philox stream, and the highest sum wins. What runs beside a seeded request cannot change its noise,
and the last digits of logits, which depend on how many rows a kernel computes, change the winner
only where two sums nearly tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.adjustments import adjustments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from edge_agent.engine.adjustments import Late, Logits
    from edge_agent.messages import Sampling

    Pick = Callable[[Logits], int]
    Candidates = tuple[NDArray[np.intp], NDArray[np.float64]]
    """Token ids and their weights (not normalised), the heaviest first if sorted."""
    Filter = Callable[[Candidates], Candidates]

# How many of the heaviest tokens top-p looks at before it sorts more; one draw in a hundred needs
# more than these at usual settings.
_FIRST_LOOK = 256
# Colder than this only the argmax keeps any weight, and the division would overflow (vLLM's mark).
_GREEDY_BELOW = 1e-5
# The least normal float64: a token lighter than this relative to the heaviest is never drawn.
_WEIGHTLESS = 2.3e-308


class Picker:
    """Chooses tokens for one answer and remembers them for what depends on them."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        prompt: Sequence[int],
        vocab: int,
        bias: Mapping[int, float] | None = None,
        late: Late | None = None,
    ) -> None:
        self._adjustments = adjustments(
            sampling, prompt=prompt, vocab=vocab, bias=bias or {}, late=late
        )
        self._pick = _make_pick(sampling)

    def pick(self, logits: Logits) -> int:
        """Return the next token's id; `logits` float32 [vocab] may be changed in place."""
        for adjustment in self._adjustments:
            adjustment.apply(logits)
        token = self._pick(logits)
        for adjustment in self._adjustments:
            adjustment.count(token)
        return token


def _make_pick(sampling: Sampling) -> Pick:
    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    if temperature < _GREEDY_BELOW:
        return _greedy
    select = _selector(sampling.top_k or 0, 1.0 if sampling.top_p is None else sampling.top_p)
    # The heaviest token weighs 1; what weighs nothing cannot be drawn.
    least = max(sampling.min_p or 0.0, _WEIGHTLESS)
    rng = np.random.Generator(np.random.Philox(sampling.seed))

    def pick(logits: Logits) -> int:
        # Weights relative to the heaviest token.
        weights = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
        ids, weights = select(weights)
        kept = weights >= least
        ids, weights = ids[kept], weights[kept]
        uniform = rng.random(len(logits))[ids]
        # Uniform noise may be 0; its Gumbel value is then -inf, and so never the highest.
        with np.errstate(divide="ignore"):
            return int(ids[np.argmax(np.log(weights) - np.log(-np.log(uniform)))])

    return pick


def _greedy(logits: Logits) -> int:
    return int(np.argmax(logits))


def _selector(top_k: int, top_p: float) -> Callable[[NDArray[np.float64]], Candidates]:
    """Return the function that keeps what top-k and then top-p allow."""

    def everything(weights: NDArray[np.float64]) -> Candidates:
        return np.arange(len(weights)), weights

    def by_rank(weights: NDArray[np.float64]) -> Candidates:
        return heaviest(weights, top_k)

    def by_mass(weights: NDArray[np.float64]) -> Candidates:
        if top_k:
            ids, ranked = heaviest(weights, top_k)
            total = float(ranked.sum())
        else:
            ids, ranked, total = _until_mass(weights, top_p)
        keep = int(np.searchsorted(np.cumsum(ranked), top_p * total)) + 1
        return ids[:keep], ranked[:keep]

    if top_p < 1:
        return by_mass
    return by_rank if top_k else everything


def heaviest(weights: NDArray[np.float64], count: int) -> Candidates:
    """Return ids and weights of the `count` heaviest, heaviest first, ties by the lower id."""
    count = min(count, len(weights))
    if count < len(weights):
        border = np.partition(weights, len(weights) - count)[len(weights) - count]
        ids = np.flatnonzero(weights >= border)
    else:
        ids = np.arange(len(weights))
    ids = ids[np.argsort(-weights[ids], kind="stable")][:count]
    return ids, weights[ids]


def _until_mass(
    weights: NDArray[np.float64], top_p: float
) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Return at least the heaviest tokens that together hold `top_p` of the mass, and the mass."""
    total = float(weights.sum())
    count = _FIRST_LOOK
    while True:
        ids, ranked = heaviest(weights, count)
        if len(ids) == len(weights) or float(ranked.sum()) >= top_p * total:
            return ids, ranked, total
        count *= 8
