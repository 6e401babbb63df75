"""Ranking without sorting gives what a full sort gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.ranking import highest


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
