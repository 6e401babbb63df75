"""Finds the highest of many numbers without sorting them all: what is sorted is small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Maxima over so many columns cost one pass through memory, and leave few candidates to sort.
_COLUMNS = 2048


def highest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` highest of `values`, highest first, ties lower index first.

    Indices of all, in that order, if there are no more than `count`.
    """
    if count == 0:
        return np.empty(0, np.intp)
    # NaN is below nothing: a broken model's row has as many as any other.
    ids = np.flatnonzero(~(values < _mark(values, count)))
    ranked: NDArray[np.intp] = ids[np.argsort(-values[ids], kind="stable")][:count]
    return ranked


def _mark(values: NDArray[np.float32], count: int) -> np.float32:
    """Return a number that at least `count` of `values` reach, and hardly any more."""
    if count >= len(values):
        return np.float32(-np.inf)
    rows = len(values) // _COLUMNS
    if rows > 1 and count <= _COLUMNS:
        # As many columns reach the mark as are wanted; each of the highest does, whose column does.
        values = values[: rows * _COLUMNS].reshape(rows, _COLUMNS).max(axis=0)
    mark: np.float32 = np.partition(values, len(values) - count)[len(values) - count]
    return mark
