"""The draw by blocks against the distribution that it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.draw import BLOCK_TOKENS, block_sums, draw, draw_of


def test_block_sums_are_of_every_block_the_last_and_shorter_one_too() -> None:
    weights = np.arange(2 * BLOCK_TOKENS + 3, dtype=np.float32)

    wanted = [weights[at : at + BLOCK_TOKENS].sum() for at in range(0, len(weights), BLOCK_TOKENS)]
    assert block_sums(weights).tolist() == wanted
    assert block_sums(weights[:BLOCK_TOKENS]).tolist() == wanted[:1]
    assert block_sums(weights[:3]).tolist() == [3]


def test_block_sums_are_of_what_has_a_flag() -> None:
    weights = np.arange(2 * BLOCK_TOKENS + 3, dtype=np.float32)
    flags = (np.arange(len(weights)) % 3 == 0).astype(np.float32)

    assert block_sums(weights, flags).tolist() == block_sums(weights * flags).tolist()
    assert block_sums(weights[:3], flags[:3]).tolist() == [0]


@pytest.mark.parametrize("size", [4, BLOCK_TOKENS, 2000])
def test_tokens_are_drawn_by_their_weight(size: int) -> None:
    weights = (np.arange(size) % 4 + 1).astype(np.float32)
    sums, rng = block_sums(weights), np.random.Generator(np.random.Philox(1))
    every = np.array([draw(sums, weights.__getitem__, rng) for _ in range(10_000)])

    seen = np.bincount(every % 4, minlength=4)
    # Chi-square with 3 degrees of freedom: passed once in 10,000 seeds; ours is fixed.
    wanted = np.arange(1, 5) * 1000
    assert float(((seen - wanted) ** 2 / wanted).sum()) < 21.1


@given(st.sampled_from([1, 5, BLOCK_TOKENS, 1300]), st.integers(0, 1 << 32))
def test_what_weighs_nothing_may_as_well_be_left_out(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Eighths, so that every sum is exact.
    weights = (rng.integers(0, 3, size) / 8).astype(np.float32)
    weights[rng.integers(size)] = 1
    few = rng.permutation(np.flatnonzero(weights))

    whole = draw(block_sums(weights), weights.__getitem__, np.random.default_rng(seed))
    assert weights[whole] > 0
    assert draw_of(few, weights[few], np.random.default_rng(seed), vocab=size) == whole
