"""What is ahead of a token, and how much of it, against the definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.draw import block_sums
from edge_agent.engine.nucleus import Mark, draw_kept, sums_ahead

SIZES = st.sampled_from([1, 700, 20_000, 40_000])


def case(size: int, seed: int) -> tuple[np.ndarray, Mark, np.ndarray]:
    """Return weights, the mark of one token, and of each token what it weighs ahead of the mark."""
    rng = np.random.default_rng(seed)
    # Eighths, so that every sum is exact.
    weights = (rng.integers(0, 9, size) / 8).astype(np.float32)
    token = int(rng.integers(size))
    equal = weights == weights[token]
    is_ahead = (weights > weights[token]) | (equal & (np.arange(size) < token))
    return weights, Mark(weights[token], token), weights * is_ahead


@given(SIZES, st.integers(0, 1 << 32), st.integers(0, 40_000), st.integers(0, 40_000))
def test_a_token_has_all_heavier_ones_ahead_and_equals_of_lower_ids(
    size: int, seed: int, start: int, end: int
) -> None:
    weights, mark, ahead = case(size, seed)
    part = slice(*sorted((start, end)))

    assert mark.ahead(weights, part).tolist() == ahead[part].tolist()


@given(SIZES, st.integers(0, 1 << 32))
def test_sums_of_what_is_ahead_are_told_where_they_hold_enough(size: int, seed: int) -> None:
    weights, mark, ahead = case(size, seed)
    held, sums = float(ahead.sum()), block_sums(weights)

    assert sums_ahead(weights, mark, sums, holding=held + 1 / 16) is None
    told = sums_ahead(weights, mark, sums, holding=held)
    assert told is not None
    assert told.tolist() == block_sums(ahead).tolist()


@given(SIZES, st.integers(0, 1 << 32))
def test_what_was_taken_out_does_not_count_as_behind(size: int, seed: int) -> None:
    weights, mark, ahead = case(size, seed)
    # All that is left beside the token is ahead of it.
    left = ahead.copy()
    left[mark.token] = mark.weight

    told = sums_ahead(weights, mark, block_sums(left), holding=float(ahead.sum()))
    assert told is not None
    assert told.tolist() == block_sums(ahead).tolist()


@given(SIZES, st.integers(0, 1 << 32), st.sampled_from([1e-12, 0.3, 0.9, 1.0]))
def test_the_weights_stay_as_they_are(size: int, seed: int, top_p: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random(size, np.float32) + np.float32(0.1)
    before = weights.copy()

    token = draw_kept(weights, block_sums(weights), rng, top_p=top_p, least=weights.max() / 2)

    assert weights[token] >= weights.max() / 2
    assert weights.tolist() == before.tolist()
    if top_p == 1e-12:
        assert token == weights.argmax()


def test_a_broken_row_holds_nothing_ahead() -> None:
    weights = np.full(40_000, np.nan, np.float32)

    assert sums_ahead(weights, Mark(weights[3], 3), block_sums(weights), holding=np.nan) is None
