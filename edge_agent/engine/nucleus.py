"""Draws from what top-p and then min-p leave of a vocabulary, without looking for all of that.

One of all is drawn, and may not be if those ahead of it hold top_p already. Then only they stay,
and the draw is repeated. It is exact: whoever may be drawn has never been taken out, so shares
among them are what they were. On average 1 + ln(1 / top_p) draws are enough, since a draw leaves a
uniform part of the mass.

What stays is told by a mark, and the weights are never changed: of the tokens ahead of a mark only
the sums of blocks are kept, which the look at a drawn token yields by the way.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_agent.engine.draw import BLOCK_TOKENS, block_sums, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.engine.draw import Sums, Weights

# Blocks to a look for what is ahead of a token: of fewer, calls would cost more than they save by
# an early end; of more, what they read and write leaves the second cache of small processors.
_STRETCH_BLOCKS = 64
_STRETCH_TOKENS = _STRETCH_BLOCKS * BLOCK_TOKENS


class Mark(NamedTuple):
    """A place in the order of top-p: heavier tokens are ahead of it, and equals of lower ids."""

    weight: np.float32
    token: int

    def flags(self, weights: Weights, part: slice) -> Weights:
        """Return, for each of a part of `weights` [vocab], 1 if it is ahead of the mark and else 0.

        As float32: a product with booleans takes twice the time.
        """
        some = weights[part]
        lower = min(max(self.token - part.start, 0), len(some))
        flags = np.empty(len(some), np.bool_)
        np.greater_equal(some[:lower], self.weight, out=flags[:lower])
        np.greater(some[lower:], self.weight, out=flags[lower:])
        return flags.astype(np.float32)

    def ahead(self, weights: Weights, part: slice) -> Weights:
        """Return a copy of a part of `weights` [vocab] with 0 for what is not ahead."""
        return weights[part] * self.flags(weights, part)

    def sums(self, weights: Weights, part: slice) -> Sums:
        """Return the sums of what is ahead, of every block of a part of `weights` [vocab]."""
        return block_sums(weights[part], self.flags(weights, part))


def draw_kept(
    weights: Weights, sums: Sums, rng: np.random.Generator, *, top_p: float, least: np.float32
) -> int:
    """Draw one of the tokens of a whole vocabulary that top-p and then min-p leave.

    Args:
        weights: float32 [vocab], not normalised; not changed.
        sums: of every block of `weights`.
        rng: gives the noise.
        top_p: the share of the mass that the heaviest tokens hold which stay, 0 to 1.
        least: what a token weighs at least to stay, after that; the heaviest one does.
    """
    vocab = len(weights)
    mass = float(sums.sum())
    left: Callable[[slice], Weights] = weights.__getitem__
    while True:
        token = draw(sums, left, rng)
        drawn = Mark(weights[token], token)
        if drawn.weight < least:
            mark = Mark(least, vocab)
            left = partial(mark.ahead, weights)
            sums = np.concatenate([mark.sums(weights, part) for part in _stretches(vocab)])
            continue
        if drawn.weight > (1 - top_p) * mass:
            return token  # those ahead of it hold less than top_p, for it alone has the rest
        ahead = sums_ahead(weights, drawn, sums, holding=top_p * mass)
        if ahead is None:
            return token
        left, sums = partial(drawn.ahead, weights), ahead


def sums_ahead(weights: Weights, mark: Mark, sums: Sums, *, holding: float) -> Sums | None:
    """Return the sums of blocks of what is ahead of `mark`, or None if that holds less.

    Looks only as far as it takes: mostly a small part shows that too much is behind the mark.

    Args:
        weights: float32 [vocab].
        mark: a token of those that are left.
        sums: of every block, of the tokens that are left.
        holding: the weight that is asked for, above 0.
    """
    most_behind = float(sums.sum()) - holding
    if most_behind < 0:
        return None
    behind, found = 0.0, []
    for part in _stretches(len(weights)):
        found.append(mark.sums(weights, part))
        seen = sums[part.start // BLOCK_TOKENS :][: len(found[-1])]
        behind += float((seen - found[-1]).sum())
        if behind > most_behind:
            return None
    ahead = np.concatenate(found)
    # The difference may have been rounded the other way; a broken model's NaN hold nothing.
    return ahead if ahead.sum() >= holding else None


def _stretches(vocab: int) -> Iterator[slice]:
    return (slice(at, at + _STRETCH_TOKENS) for at in range(0, vocab, _STRETCH_TOKENS))
