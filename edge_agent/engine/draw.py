"""Draws one of many tokens by its weight: first a block of tokens by its sum, then a token of it.

Exact, since a token's share is that of its block times its own within it. Both draws are races:
each has an exponential clock that runs as fast as it weighs, and the first to ring wins (it is
Gumbel-max without logarithms of weights; Maddison et al. 2014). The noise of a draw depends on
nothing but the generator and the vocabulary, so whoever wins among all also wins among fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Weights = NDArray[np.float32]
    """float32: shares of tokens in the draw, not normalised."""
    Sums = NDArray[np.float64]
    """float64: the weights of each block of tokens summed, of the last and shorter one too."""

# Tokens to a block of the draw: about as much noise for the blocks of 200,064 tokens as within one.
BLOCK_TOKENS = 512


def draw(sums: Sums, block: Callable[[slice], Weights], rng: np.random.Generator) -> int:
    """Draw a token of a whole vocabulary.

    Args:
        sums: of every block, [blocks].
        block: returns the weights float32 of a slice of ids; asked for the block that is drawn.
        rng: gives the noise, as many numbers for each draw from a vocabulary.
    """
    block_noise, noise = _noises(rng, len(sums))
    start = _winner(sums, block_noise) * BLOCK_TOKENS
    weights = block(slice(start, start + BLOCK_TOKENS))
    return start + _winner(weights, noise[: len(weights)])


def draw_of(
    ids: NDArray[np.intp], weights: Weights, rng: np.random.Generator, *, vocab: int
) -> int:
    """Draw one of `ids` by its weight, [ids], with the noise it would have among all of `vocab`."""
    blocks, places = np.divmod(ids, BLOCK_TOKENS)
    num_blocks = -(-vocab // BLOCK_TOKENS)
    # Floats already; numpy's types do not tell that of weights.
    sums: Sums = np.bincount(blocks, weights, num_blocks).astype(np.float64, copy=False)
    block_noise, noise = _noises(rng, num_blocks)
    inside = np.flatnonzero(blocks == _winner(sums, block_noise))
    return int(ids[inside[_winner(weights[inside], noise[places[inside]])]])


def block_sums(weights: Weights, flags: Weights | None = None) -> Sums:
    """Return the sum of every block of `weights`, whose first one begins a block.

    Given `flags`, of what has a flag of 1 and not 0. Blocks are summed in float32.
    """
    num_whole = len(weights) // BLOCK_TOKENS
    whole = num_whole * BLOCK_TOKENS
    blocks, rest = weights[:whole].reshape(-1, BLOCK_TOKENS), weights[whole:]
    sums: Sums = np.empty(num_whole + bool(len(rest)))
    if flags is None:
        # Half the time of `sum(axis=1)`, which looks after every row by itself.
        sums[:num_whole] = np.einsum("ij->i", blocks)
    else:
        sums[:num_whole] = np.vecdot(blocks, flags[:whole].reshape(-1, BLOCK_TOKENS))
        rest = rest * flags[whole:]
    sums[num_whole:] = rest.sum()
    return sums


def _noises(
    rng: np.random.Generator, num_blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return exponential noise for every block, and for every place within one."""
    # A uniform number of 0 rings never.
    with np.errstate(divide="ignore"):
        noise = -np.log(rng.random(num_blocks + BLOCK_TOKENS))
    return noise[:num_blocks], noise[num_blocks:]


def _winner(weights: Weights | Sums, noise: NDArray[np.float64]) -> int:
    """Return which rings first: after its noise divided by its weight, so without one never."""
    return int(np.argmax(weights / noise))
