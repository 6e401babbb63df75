"""Recovers the facts of rotation from a model's tables of cosines and sines.

The builder of these packages multiplies angles out and leaves the frequencies nowhere else. Row p
holds cos and sin of p times each frequency, both times the attention factor: so row 1 tells the
frequencies, and rows 2, 4, 8, … sharpen them to what float32 can say, because there p times a
frequency is not rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers.genai_tensors import refuse
from edge_agent.importers.hf_rope import attention_factor
from edge_agent.modelstore.manifest import Rope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.genai_mask import RopeTables, Table
    from edge_agent.importers.genai_tensors import Tensor

    F64 = NDArray[np.float64]

# What factors are told against where the frequencies are no powers of one number; any would do.
DEFAULT_THETA = 10_000.0

# Relative errors of a frequency: float32 rounds by 6e-8, and some roundings add up.
_TOLERANCE = 2e-6
_TOLERANCE_HALF = 4e-3  # float16 and bfloat16
# Radians per position. Real ones reach 1e-7: theta 1e7, or 1e4 and factors of 50.
_LOWEST = 1e-12
# A float32's neighbours are at most this far off; nine digits tell it from them.
_NEIGHBOUR = 2**-23
_MOST_DIGITS = 9
# Theta up to 1e12; real ones reach 1e7.
_MOST_LOG_THETA = 12 * math.log(10)


def recover_rope(tables: RopeTables, *, context: int) -> Rope:
    """Return the facts that `tables` of a model with `context` positions were made of.

    Frequencies that are powers of one number give theta; others are told by factors that divide
    those of `DEFAULT_THETA`. Factors and theta are the shortest decimals that make them.

    Raises:
        ModelError: no rotary tables, or of half precision, which is too coarse.
    """
    if tables.short.cos.dtype != "FLOAT":
        problem = f"{tables.short.cos.dtype} is too coarse to tell frequencies by; config.json is"
        raise refuse(tables.short.cos.name, f"{problem} needed beside the model")
    short = _measure(tables.short)
    theta = _theta(short.frequencies)
    dims = 2 * len(short.frequencies)
    if tables.long is None:
        factors = () if theta else _factors(short.frequencies, DEFAULT_THETA)
        return Rope(
            theta=theta or DEFAULT_THETA,
            dims=dims,
            original_context=context,
            short_factors=factors,
            attention_factor=_magnitude(short.magnitude, 1.0),
        )
    long = _measure(tables.long)
    _check_same_magnitude(tables, short, long)
    theta = theta or DEFAULT_THETA
    usual = attention_factor(scale=context / tables.threshold, original_context=tables.threshold)
    return Rope(
        theta=theta,
        dims=dims,
        original_context=tables.threshold,
        short_factors=_factors(short.frequencies, theta),
        long_factors=_factors(long.frequencies, theta),
        attention_factor=_magnitude(short.magnitude, usual),
    )


def check_rope(rope: Rope, tables: RopeTables) -> None:
    """Check that `tables` are those of `rope`, which another file states.

    Raises:
        ModelError: they are not.
    """
    stated = [(rope.short_factors, tables.short)]
    if (tables.long is None) != (not rope.long_factors):
        msg = "config.json and model.onnx disagree on whether long requests rotate otherwise"
        raise ModelError(msg)
    if tables.long is not None:
        stated.append((rope.long_factors, tables.long))
        if tables.threshold != rope.original_context:
            msg = (
                f"config.json states {rope.original_context} original positions, "
                f"model.onnx changes its rotary tables at {tables.threshold}"
            )
            raise ModelError(msg)
    for factors, table in stated:
        measured = _measure(table)
        expected = _frequencies(rope.theta, rope.dims, factors)
        tolerance = _tolerance(table.cos)
        if (
            len(expected) != len(measured.frequencies)
            or not np.allclose(measured.frequencies, expected, rtol=5 * tolerance, atol=0)
            or abs(measured.magnitude / rope.attention_factor - 1) > tolerance
        ):
            raise refuse(table.cos.name, "its frequencies are not those that config.json states")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    frequencies: F64
    """Radians per position, float64 [dims / 2]."""
    magnitude: float


def _measure(table: Table) -> _Measured:
    rows, pairs = table.cos.shape
    if rows <= 3:  # noqa: PLR2004  # row 3 is what the rest is checked with
        raise refuse(table.cos.name, f"{rows} positions are too few to tell frequencies by")
    frequencies = np.zeros(pairs)
    magnitudes = []
    for doubling in range((rows - 1).bit_length()):
        position = 1 << doubling
        angles, lengths = _row(table, position)
        # The angle is known up to whole turns; the row before tells how many.
        turns = np.rint((position * frequencies - angles) / (2 * np.pi)) if doubling else 0
        frequencies = (angles + 2 * np.pi * turns) / position
        magnitudes.append(lengths)
    magnitude = float(np.mean(magnitudes))
    _check(table, _Measured(frequencies=frequencies, magnitude=magnitude), magnitudes)
    return _Measured(frequencies=frequencies, magnitude=magnitude)


def _row(table: Table, position: int) -> tuple[F64, F64]:
    """Return angle and length of each pair in row `position`, float64 [dims / 2]."""
    pairs = table.cos.shape[1]
    cos, sin = (
        tensor.floats(position * pairs, pairs).astype(np.float64)
        for tensor in (table.cos, table.sin)
    )
    return np.arctan2(sin, cos), np.hypot(sin, cos)


def _check(table: Table, measured: _Measured, magnitudes: Sequence[F64]) -> None:
    """Check that angles grow by the same from row to row, and that all magnitudes are one."""
    tolerance = _tolerance(table.cos)
    angles, _ = _row(table, 3)
    difference = 3 * measured.frequencies - angles
    aside = np.abs(difference - 2 * np.pi * np.rint(difference / (2 * np.pi)))
    is_rotation = (
        measured.magnitude > 0
        and np.allclose(magnitudes, measured.magnitude, rtol=tolerance, atol=0)
        and (measured.frequencies > _LOWEST).all()
        and (aside <= 2 * tolerance).all()
    )
    if not is_rotation:
        raise refuse(table.cos.name, "no table of cosines of evenly growing angles")


def _check_same_magnitude(tables: RopeTables, short: _Measured, long: _Measured) -> None:
    is_same = abs(short.magnitude / long.magnitude - 1) <= _TOLERANCE
    if not is_same or len(short.frequencies) != len(long.frequencies):
        problem = "another attention factor or width in short requests than in long ones"
        raise refuse(tables.short.cos.name, f"{problem}, which is not supported")


def _theta(frequencies: F64) -> float | None:
    """Return theta if the frequencies are `theta ** (-2i / dims)`, else None."""
    pairs = len(frequencies)
    if pairs == 1:
        return None
    index = np.arange(pairs)
    # Least squares of the logarithms, which lie on a line through zero.
    slope = float(index @ np.log(frequencies) / (index @ index))
    if not 0 < -slope * pairs < _MOST_LOG_THETA:
        return None
    exact = math.exp(-slope * pairs)
    for digits in range(1, _MOST_DIGITS + 1):
        theta = float(f"{exact:.{digits}g}")
        if np.allclose(frequencies, theta ** (-index / pairs), rtol=_TOLERANCE, atol=0):
            return theta
    return None


def _factors(frequencies: F64, theta: float) -> tuple[float, ...]:
    """Return the shortest factors that make `frequencies`, as far as float32 can tell."""
    plain = _frequencies(theta, 2 * len(frequencies), ()).astype(np.float64)
    return tuple(_shortest(factor) for factor in (plain / frequencies).tolist())


def _shortest(number: float) -> float:
    rounded = (float(f"{number:.{digits}g}") for digits in range(1, _MOST_DIGITS + 1))
    return next(short for short in rounded if abs(short / number - 1) <= _NEIGHBOUR)


def _frequencies(theta: float, dims: int, factors: Sequence[float]) -> F32:
    """Return `1 / (factor * theta ** (2i / dims))`, float32 [dims / 2].

    In float32 step by step, as transformers' `modeling_rope_utils` and our own engine.
    """
    exponents = np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims)
    scale = np.asarray(factors or [1.0] * len(exponents), np.float32)
    if len(scale) != len(exponents):
        return np.empty(0, np.float32)
    return np.asarray(1 / (scale * np.power(np.float32(theta), exponents)), np.float32)


def _magnitude(measured: float, usual: float) -> float:
    """Return `usual` if the measured attention factor is that, as far as float32 can say."""
    for known in (1.0, usual):
        if abs(measured / known - 1) <= _TOLERANCE:
            return known
    return _shortest(measured)


def _tolerance(tensor: Tensor) -> float:
    return _TOLERANCE if tensor.dtype == "FLOAT" else _TOLERANCE_HALF
