"""Ranking without sorting gives what a full sort gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.engine.ranking import border, highest

WEIGHTS = hnp.arrays(
    np.float32,
    st.integers(1, 400),
    elements=st.one_of(st.sampled_from([0, 0.125, 0.5, 1]), st.floats(0, 1, width=32)),
).filter(lambda weights: weights.max() > 1e-30)


@given(
    st.sampled_from([1, 7, 2048, 4096, 4100, 9000]),
    st.integers(0, 3000),
    st.integers(0, 1 << 32),
    st.sampled_from([0.01, 0.5, 3.0]),
)
def test_the_highest_are_the_beginning_of_a_stable_sort(
    size: int, count: int, seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=size) * spread, 1).astype(np.float32)  # many ties
    values[rng.random(size) < 0.1] = -np.inf

    assert highest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()


def test_the_highest_of_a_vocabulary_with_holes_are_found() -> None:
    values = np.random.default_rng(1).normal(size=200_064).astype(np.float32)
    values[:150_000] = -np.inf

    assert highest(values, 40).tolist() == np.argsort(-values, kind="stable")[:40].tolist()


@given(WEIGHTS, st.floats(0.01, 0.99))
def test_the_border_is_where_a_sorted_sum_reaches_the_share(
    weights: np.ndarray, share: float
) -> None:
    lightest, count = border(weights, share)

    mass = float(weights.sum(dtype=np.float64))
    higher = float(weights[weights > lightest].sum(dtype=np.float64))
    rounding = 1e-6 * mass
    assert (weights == lightest).sum() >= count >= 1
    assert higher + count * float(lightest) >= share * mass - rounding
    assert higher + (count - 1) * float(lightest) < share * mass + rounding


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_equal_weights_are_counted(share: float) -> None:
    lightest, count = border(np.full(200_064, 0.25, np.float32), share)

    assert lightest == 0.25
    assert count == pytest.approx(share * 200_064, abs=1)
