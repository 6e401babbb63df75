"""Chooses the next token from a row of logits. All options are settled before the decode loop.

The order is vLLM's: adjustments, temperature, top-k, top-p, min-p, then a draw from what is left.
The draw is Gumbel-max, of a block of tokens and then of a token in it: each gets its own noise from
the request's own Philox stream, and the highest sum wins. What runs beside a seeded request cannot
change its noise, and the last digits of logits, which depend on how many rows a kernel computes,
change the winner only where two sums nearly tie, or where a token nearly misses a filter.

Without top-k nobody looks for the tokens that the filters leave. One of all is drawn, and may not
be if those ahead of it hold top_p already. Then only they stay, and the draw is repeated. It is
exact: whoever may be drawn has never been taken out, so shares among them are what they were. On
average 1 + ln(1 / top_p) draws are enough, since a draw leaves a uniform part of the mass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engine.adjustments import adjustments
from edge_agent.engine.ranking import highest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from edge_agent.engine.adjustments import Late, Logits
    from edge_agent.messages import Sampling

    Pick = Callable[[Logits], int]
    Weights = NDArray[np.float32]
    """float32: shares of tokens in the draw, not normalised; at first the heaviest has 1."""
    Sums = NDArray[np.floating[Any]]
    """The weights of each block of tokens summed, of the last and shorter one too."""

# Colder than this only the argmax keeps any weight, and the division would overflow (vLLM's mark).
_GREEDY_BELOW = 1e-5
# Tokens to a block of the draw: about as much noise for the blocks of 200,064 tokens as within one.
_BLOCK_TOKENS = 512
# Blocks to a look for what is ahead of a token: a call costs as much as passing over half of them.
_STRETCH_BLOCKS = 32


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
        weights = _weigh(logits[ids], inverse)
        kept = _count_kept(weights, top_p=top_p, min_p=min_p)
        return _draw_of(ids[:kept], weights[:kept], rng, vocab=len(logits))

    def pick_of_all(logits: Logits) -> int:
        return _draw_kept(_weigh(logits, inverse), rng, top_p=top_p, min_p=min_p)

    return pick_of_few if top_k else pick_of_all


def _greedy(logits: Logits) -> int:
    return int(np.argmax(logits))


def _weigh(logits: Logits, inverse: np.float32) -> Weights:
    """Return weights relative to the heaviest, in place of `logits`, which are not read again."""
    weights: Weights = np.subtract(logits, logits.max(), out=logits)
    if inverse != 1:
        weights *= inverse
    np.exp(weights, out=weights)
    return weights


def _count_kept(weights: Weights, *, top_p: float, min_p: np.float32) -> int:
    """Return how many of `weights`, heaviest first, top-p and min-p leave: at least 1."""
    heavy = int(np.count_nonzero(weights >= min_p))
    sums = weights.cumsum(dtype=np.float64)
    ahead = sums - weights
    return max(1, min(heavy, int(np.count_nonzero(ahead < top_p * sums[-1]))))


def _draw_of(
    ids: NDArray[np.intp], weights: Weights, rng: np.random.Generator, *, vocab: int
) -> int:
    """Draw one of `ids` by its weight, with the noise that it would have among all of `vocab`."""
    blocks, places = np.divmod(ids, _BLOCK_TOKENS)
    sums: Sums = np.zeros(-(-vocab // _BLOCK_TOKENS))
    np.add.at(sums, blocks, weights)
    block_noise, noise = _noises(rng, len(sums))
    inside = np.flatnonzero(blocks == _highest_sum(sums, block_noise))
    return int(ids[inside[_highest_sum(weights[inside], noise[places[inside]])]])


def _draw_kept(
    weights: Weights, rng: np.random.Generator, *, top_p: float, min_p: np.float32
) -> int:
    """Draw one of the tokens of a whole vocabulary that top-p and then min-p leave."""
    sums = _block_sums(weights)
    mass = float(sums.sum(dtype=np.float64))
    enough = (1 - top_p) * mass
    while True:
        token = _draw(weights, sums, rng)
        weight = weights[token]
        is_light = weight < min_p
        if weight > enough and not is_light:
            return token  # those ahead of it hold less than top_p, for it alone has the rest
        if not (is_light or _holds(weights, sums, token, least=top_p * mass)):
            return token
        weights = weights * (weights >= min_p if is_light else _are_ahead(weights, token, weight))
        sums = _block_sums(weights)


def _holds(weights: Weights, sums: Sums, token: int, *, least: float) -> bool:
    """Return whether what top-p takes before `token` weighs `least`.

    Looks only as far as it takes: mostly a small part shows that too much is behind the token.
    """
    ahead, seen = 0.0, 0.0
    most_behind = float(sums.sum(dtype=np.float64)) - least
    for number, start in enumerate(range(0, len(weights), _STRETCH_BLOCKS * _BLOCK_TOKENS)):
        stretch = weights[start : start + _STRETCH_BLOCKS * _BLOCK_TOKENS]
        ahead += float((stretch * _are_ahead(stretch, token - start, weights[token])).sum())
        seen += float(sums[number * _STRETCH_BLOCKS : (number + 1) * _STRETCH_BLOCKS].sum())
        if ahead >= least or seen - ahead > most_behind:
            break
    return ahead >= least


def _are_ahead(weights: Weights, place: int, weight: np.float32) -> NDArray[np.bool_]:
    """Tell which top-p takes before the token of `weight` at `place`, in `weights` or beyond.

    Those are the heavier ones, and of its equals those of lower ids.
    """
    lower = min(max(place, 0), len(weights))
    ahead = np.empty(len(weights), np.bool_)
    np.greater_equal(weights[:lower], weight, out=ahead[:lower])
    np.greater(weights[lower:], weight, out=ahead[lower:])
    return ahead


def _draw(weights: Weights, sums: Sums, rng: np.random.Generator) -> int:
    """Draw a token by its weight: first a block of tokens by its sum, then a token of the block.

    Exact, since a token's share is that of its block times its own within it, and both draws are
    Gumbel-max (Gumbel 1954): the highest of logarithms plus noise.
    """
    block_noise, noise = _noises(rng, len(sums))
    start = _highest_sum(sums, block_noise) * _BLOCK_TOKENS
    block = weights[start : start + _BLOCK_TOKENS]
    return start + _highest_sum(block, noise[: len(block)])


def _block_sums(weights: Weights) -> Sums:
    whole = len(weights) - len(weights) % _BLOCK_TOKENS
    # Half the time of `sum(axis=1)`, which looks after every row by itself.
    sums: Sums = np.einsum("ij->i", weights[:whole].reshape(-1, _BLOCK_TOKENS))
    return np.append(sums, weights[whole:].sum()) if whole < len(weights) else sums


def _noises(
    rng: np.random.Generator, num_blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Gumbel noise for every block, and for every place within one."""
    # A uniform number of 0 has no noise that could win.
    with np.errstate(divide="ignore"):
        noise = -np.log(-np.log(rng.random(num_blocks + _BLOCK_TOKENS)))
    return noise[:num_blocks], noise[num_blocks:]


def _highest_sum(weights: Sums, noise: NDArray[np.float64]) -> int:
    # What weighs nothing has a logarithm of -inf, and is never the highest.
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(weights, dtype=np.float64) + noise))
