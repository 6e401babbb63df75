"""Chooses the next token from a row of logits. All options are settled before the decode loop.

The order is vLLM's: adjustments, temperature, top-k, top-p, min-p, then a draw from what is left.
The draw's noise comes from the request's own Philox stream. What runs beside a seeded request
cannot change it, and the last digits of logits, which depend on how many rows a kernel computes,
change the winner only where two sums nearly tie, or where a token nearly misses a filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.adjustments import adjustments
from edge_agent.engine.draw import block_sums, draw_of
from edge_agent.engine.nucleus import draw_kept
from edge_agent.engine.ranking import highest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge_agent.engine.adjustments import Late, Logits
    from edge_agent.engine.draw import Sums, Weights
    from edge_agent.messages import Sampling

    Pick = Callable[[Logits], int]

# Colder than this only the argmax keeps any weight, and the division would overflow (vLLM's mark).
_GREEDY_BELOW = 1e-5
# What all weights may come to without being shifted: float32 holds e^-87 to e^88, so sums of them
# have room above, and all that could ever be drawn has below.
_LEAST_MASS, _MOST_MASS = 1e-8, 1e30


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
    top_k, min_p = sampling.top_k or 0, np.float32(sampling.min_p or 0)
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    inverse = np.float32(1 / temperature)
    rng = np.random.Generator(np.random.Philox(sampling.seed))

    def pick_of_few(logits: Logits) -> int:
        ids = highest(logits, top_k)
        few = logits[ids]
        weights = _exp(few - few[0], inverse)
        kept = _count_kept(weights, top_p=top_p, min_p=min_p)
        return draw_of(ids[:kept], weights[:kept], rng, vocab=len(logits))

    def pick_of_all(logits: Logits) -> int:
        weights, sums = _weigh(logits, inverse)
        least = min_p * weights.max() if min_p else min_p
        return draw_kept(weights, sums, rng, top_p=top_p, least=least)

    return pick_of_few if top_k else pick_of_all


def _greedy(logits: Logits) -> int:
    return int(np.argmax(logits))


def _weigh(logits: Logits, inverse: np.float32) -> tuple[Weights, Sums]:
    """Return weights, [vocab], and their sums by block.

    Logits are seldom so high or low that their highest has to be found first and taken from all;
    it takes a third of the time that exponentials do.
    """
    with np.errstate(over="ignore"):
        weights = _exp(logits, inverse)
        sums = block_sums(weights)
    if not _LEAST_MASS <= sums.sum() <= _MOST_MASS:
        weights = _exp(logits - logits.max(), inverse)
        sums = block_sums(weights)
    return weights, sums


def _exp(logits: Logits, inverse: np.float32) -> Weights:
    if inverse == 1:
        return np.exp(logits)
    weights: Weights = logits * inverse
    return np.exp(weights, out=weights)


def _count_kept(weights: Weights, *, top_p: float, min_p: np.float32) -> int:
    """Return how many of `weights`, heaviest first, top-p and min-p leave: at least 1."""
    heavy = int(np.count_nonzero(weights >= min_p))
    sums = weights.cumsum(dtype=np.float64)
    ahead = sums - weights
    return max(1, min(heavy, int(np.count_nonzero(ahead < top_p * sums[-1]))))
