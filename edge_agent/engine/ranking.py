"""Finds the highest of many numbers, or those that hold most of a mass, without sorting them all.

Every function takes whole vocabularies and looks at them once or twice; what is sorted is small.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Maxima over so many columns cost one pass through memory, and leave few candidates to sort.
_COLUMNS = 2048
# A float32 is looked at in three parts of 10 or 11 bits: so many sums stay in the cache.
_SHIFTS = (21, 10, 0)


def highest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` highest of `values`, highest first, ties lower index first.

    Indices of all, in that order, if there are no more than `count`.
    """
    if count == 0:
        return np.empty(0, np.intp)
    ids = np.flatnonzero(values >= _mark(values, count))
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


def border(weights: NDArray[np.float32], share: float) -> tuple[np.float32, int]:
    """Return the lightest of the fewest heaviest that hold `share` (below 1) of all `weights` >= 0.

    And how many of exactly that weight are among them, at least 1. Shares are exact to about the
    rounding of float32.
    """
    mass = float(weights.sum())
    # All that weigh less than this hold less than may be left out, so none of them is wanted.
    least = 0.999 * (1 - share) * mass / len(weights)
    values = weights[np.flatnonzero(weights > least)]
    missing, start = share * mass, 0
    # Positive floats rank as their bits do: masses are summed by the first bits, within those at
    # which the share is reached by the next, until the whole number is known.
    for shift in _SHIFTS:
        keys = values.view(np.uint32) >> np.uint32(shift)
        key, missing = _reach(keys, values, missing)
        values = values[np.flatnonzero(keys == key)]
        start = key << shift
    lightest = np.uint32(start).view(np.float32)
    return lightest, max(1, math.ceil(missing / float(lightest)))


def _reach(keys: NDArray[np.uint32], values: NDArray[np.float32], mass: float) -> tuple[int, float]:
    """Return the key at which `values`, summed from the highest key down, reach `mass`.

    And how much those of higher keys lack of it. Rounding may leave a little mass that is never
    reached: then it is the lowest key.
    """
    lowest = int(keys.min())
    sums = np.bincount(keys - np.uint32(lowest), weights=values)[::-1].cumsum()
    place = min(int(np.searchsorted(sums, mass)), len(sums) - 1)
    above = float(sums[place - 1]) if place else 0.0
    return lowest + len(sums) - 1 - place, mass - above
