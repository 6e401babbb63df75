"""Chooses the next token from a row of logits. All options are settled before the decode loop.

The order is vLLM's: adjustments, temperature, top-k, top-p, min-p, then a draw from what is left.
The draw is Gumbel-max, of a block of tokens and then of a token in it: each gets its own noise from
the request's own Philox stream, as much for every token, and the highest sum wins. What runs beside
a seeded request cannot change its noise, and the last digits of logits, which depend on how many
rows a kernel computes, change the winner only where two sums nearly tie.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.adjustments import adjustments
from edge_agent.engine.ranking import border, highest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from edge_agent.engine.adjustments import Late, Logits
    from edge_agent.messages import Sampling

    Pick = Callable[[Logits], int]
    Weights = NDArray[np.float32]
    """float32 [vocab]: shares of the tokens in the draw, not normalised."""
    Filter = Callable[[Weights], None]

# Colder than this only the argmax keeps any weight, and the division would overflow (vLLM's mark).
_GREEDY_BELOW = 1e-5
# Tokens to a block of the draw: about as much noise for the blocks of 200,064 tokens as within one.
_BLOCK_TOKENS = 512


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
    filters = _filters(sampling)
    inverse = np.float32(1 / temperature)
    rng = np.random.Generator(np.random.Philox(sampling.seed))

    def pick(logits: Logits) -> int:
        # Weights relative to the heaviest token, in place: the logits are not read again.
        weights = np.subtract(logits, logits.max(), out=logits)
        weights *= inverse
        np.exp(weights, out=weights)
        for keep in filters:
            keep(weights)
        return _draw(weights, rng)

    return pick


def _greedy(logits: Logits) -> int:
    return int(np.argmax(logits))


def _filters(sampling: Sampling) -> list[Filter]:
    """Return what takes all weight from tokens that may not be drawn, in order."""
    filters: list[Filter] = []
    if sampling.top_k:
        filters.append(partial(_keep_highest, count=sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        filters.append(partial(_keep_mass, share=sampling.top_p))
    if sampling.min_p:
        # Relative to the heaviest token, which weighs 1.
        filters.append(partial(_keep_heavy, least=np.float32(sampling.min_p)))
    return filters


def _keep_highest(weights: Weights, *, count: int) -> None:
    ids = highest(weights, count)
    kept = weights[ids]
    weights.fill(0)
    weights[ids] = kept


def _keep_mass(weights: Weights, *, share: float) -> None:
    lightest, num_lightest = border(weights, share)
    # Of those that weigh the same, the lower ids are kept.
    weights[np.flatnonzero(weights == lightest)[num_lightest:]] = 0
    _keep_heavy(weights, least=lightest)


def _keep_heavy(weights: Weights, *, least: np.float32) -> None:
    weights *= weights >= least


def _draw(weights: Weights, rng: np.random.Generator) -> int:
    """Draw a token by its weight: first a block of tokens by its sum, then a token of the block.

    Exact, since a token's share is that of its block times its own within it, and both draws are
    Gumbel-max (Gumbel 1954): the highest of logarithms plus noise.
    """
    starts = np.arange(0, len(weights), _BLOCK_TOKENS)
    uniform = rng.random(len(starts) + _BLOCK_TOKENS)
    # Nothing has a logarithm of -inf, and is never the highest; nor is noise of 0.
    with np.errstate(divide="ignore"):
        noise = -np.log(-np.log(uniform))
        sums = np.log(np.add.reduceat(weights, starts), dtype=np.float64)
        start = int(starts[np.argmax(sums + noise[: len(starts)])])
        block = np.log(weights[start : start + _BLOCK_TOKENS], dtype=np.float64)
    return start + int(np.argmax(block + noise[len(starts) : len(starts) + len(block)]))
