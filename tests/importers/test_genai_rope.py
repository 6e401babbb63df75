"""Frequencies come back from tables of cosines and sines, and nothing else passes for a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.engine.rope import rope_tables
from edge_agent.errors import ModelError
from edge_agent.importers.genai_mask import RopeTables, Table
from edge_agent.importers.genai_rope import check_rope, recover_rope
from edge_agent.importers.genai_tensors import Tensor
from edge_agent.modelstore.manifest import Rope

if TYPE_CHECKING:
    from collections.abc import Sequence

F32 = NDArray[np.float32]

CONTEXT, ORIGINAL_CONTEXT = 4096, 256
# Those of Phi-4-mini, every sixth of 48.
LONG_FACTORS = (1.0, 1.956131817, 3.826451687, 7.485043894, 14.64173252, 28.64115884, 32.61, 32.97)
FACTOR = (1 + np.log(CONTEXT / ORIGINAL_CONTEXT) / np.log(ORIGINAL_CONTEXT)) ** 0.5


def tensor(array: NDArray[np.generic]) -> Tensor:
    """Return a tensor that holds `array`."""
    dtype = {"f4": "FLOAT", "f2": "FLOAT16"}[array.dtype.str[1:]]
    return Tensor(name="cos", shape=array.shape, dtype=dtype, inline=array.tobytes())


def table(
    factors: Sequence[float] = (1.0,) * 8,
    *,
    theta: float = 10_000.0,
    rows: int = CONTEXT,
    scale: float = 1.0,
    dtype: type[np.floating[Any]] = np.float32,
) -> Table:
    """Return the table of these factors, computed as the builder does it."""
    pairs = len(factors)
    exponents = np.arange(0, 2 * pairs, 2, dtype=np.float32) / np.float32(2 * pairs)
    inverse = 1 / (np.asarray(factors, np.float32) * np.float32(theta) ** exponents)
    angles = np.outer(np.arange(rows, dtype=np.float32), inverse.astype(np.float32))
    cos, sin = np.cos(angles) * np.float32(scale), np.sin(angles) * np.float32(scale)
    return Table(cos=tensor(cos.astype(dtype)), sin=tensor(sin.astype(dtype)))


def longrope(**changes: float) -> RopeTables:
    """Return tables as Phi-4-mini's: short ones of plain powers, long ones of factors."""
    long_scale = changes.get("long_scale", FACTOR)
    return RopeTables(
        short=table(rows=ORIGINAL_CONTEXT, scale=FACTOR),
        long=table(LONG_FACTORS, scale=long_scale),
        threshold=ORIGINAL_CONTEXT,
    )


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0, 1_000_000.0, 12_345.0])
def test_theta_comes_back_from_plain_tables(theta: float) -> None:
    rope = recover_rope(RopeTables(short=table(theta=theta)), context=CONTEXT)

    assert rope == Rope(theta=theta, dims=16, original_context=CONTEXT)


def test_the_factors_of_longrope_come_back_as_they_were_published() -> None:
    rope = recover_rope(longrope(), context=CONTEXT)

    assert rope.short_factors == (1.0,) * 8
    np.testing.assert_allclose(rope.long_factors, LONG_FACTORS, rtol=2e-7)
    assert (rope.theta, rope.dims, rope.original_context) == (10_000.0, 16, ORIGINAL_CONTEXT)
    assert rope.attention_factor == pytest.approx(FACTOR, abs=1e-12)


def test_our_own_tables_of_what_came_back_are_those_of_the_model() -> None:
    source = longrope()

    ours = rope_tables(recover_rope(source, context=CONTEXT), capacity=CONTEXT)

    assert source.long is not None
    stored = source.long.cos.floats(0, CONTEXT * 8).reshape(CONTEXT, 8)
    np.testing.assert_allclose(ours.cos[ours.long_offset :], stored, atol=1e-3)
    np.testing.assert_allclose(ours.cos[ours.long_offset :][:100], stored[:100], atol=3e-5)


def test_a_scaling_for_all_lengths_becomes_short_factors() -> None:
    factors = (1.0, 1.0, 1.0, 1.25, 3.5, 8.0, 8.0, 8.0)  # as of Llama 3.1

    rope = recover_rope(RopeTables(short=table(factors, theta=500_000.0)), context=CONTEXT)

    ours = rope_tables(rope, capacity=64)
    theirs = table(factors, theta=500_000.0).sin.floats(0, 64 * 8).reshape(64, 8)
    np.testing.assert_allclose(ours.sin, theirs, atol=1e-5)
    assert rope.long_factors == ()


def test_one_frequency_needs_no_theta() -> None:
    rope = recover_rope(RopeTables(short=table((1.0,))), context=CONTEXT)

    assert (rope.theta, rope.dims, rope.short_factors) == (10_000.0, 2, (1.0,))


def test_frequencies_may_grow() -> None:
    rope = recover_rope(RopeTables(short=table((50.0, 0.005))), context=CONTEXT)

    assert (rope.theta, rope.short_factors) == (10_000.0, (50.0, 0.005))


def test_an_attention_factor_of_its_own_is_kept() -> None:
    rope = recover_rope(RopeTables(short=table(scale=1.3)), context=CONTEXT)

    assert rope.attention_factor == 1.3


@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=48))
def test_any_factors_come_back(factors: list[float]) -> None:
    rope = recover_rope(RopeTables(short=table(factors, rows=64)), context=CONTEXT)

    ours = rope_tables(rope, capacity=64)
    theirs = table(factors, rows=64).sin.floats(0, 64 * len(factors))
    np.testing.assert_allclose(ours.sin.reshape(-1), theirs, atol=2e-5)


def test_half_precision_is_too_coarse() -> None:
    coarse = RopeTables(short=table(dtype=np.float16))

    with pytest.raises(ModelError, match=r"FLOAT16 is too coarse .*config\.json is needed"):
        recover_rope(coarse, context=CONTEXT)


def test_short_and_long_requests_must_share_the_attention_factor() -> None:
    with pytest.raises(ModelError, match="another attention factor"):
        recover_rope(longrope(long_scale=1.0), context=CONTEXT)


@pytest.mark.parametrize("kind", ["noise", "zeros", "two magnitudes", "backwards", "few", "jump"])
def test_what_is_no_rotary_table_is_refused(kind: str) -> None:
    plain = table(rows=64)
    cos, sin = (part.floats(0, 64 * 8).reshape(64, 8).copy() for part in (plain.cos, plain.sin))
    match kind:
        case "noise":
            cos = np.random.default_rng(0).normal(size=cos.shape).astype(np.float32)
        case "zeros":
            cos, sin = np.zeros_like(cos), np.zeros_like(sin)
        case "two magnitudes":
            cos[:, 3], sin[:, 3] = 2 * cos[:, 3], 2 * sin[:, 3]
        case "backwards":
            sin = -sin
        case "few":
            cos, sin = cos[:3], sin[:3]
        case _:
            cos[3], sin[3] = cos[4], sin[4]
    broken = RopeTables(short=Table(cos=tensor(cos), sin=tensor(sin)))

    with pytest.raises(ModelError, match="tensor 'cos': "):
        recover_rope(broken, context=CONTEXT)


STATED = Rope(
    theta=10_000.0,
    dims=16,
    original_context=ORIGINAL_CONTEXT,
    short_factors=(1.0,) * 8,
    long_factors=LONG_FACTORS,
    attention_factor=FACTOR,
)


def test_what_a_configuration_states_is_found_in_the_tables() -> None:
    check_rope(STATED, longrope())


def test_half_precision_is_enough_to_check_by() -> None:
    plain = Rope(theta=10_000.0, dims=16, original_context=CONTEXT)

    check_rope(plain, RopeTables(short=table(dtype=np.float16)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"theta": 20_000.0}, "not those that config.json states"),
        ({"dims": 14, "short_factors": (), "long_factors": (2.0,) * 7}, "not those that config"),
        ({"short_factors": (1.0,) * 7}, "not those that config.json states"),
        ({"short_factors": (1.001,) * 8}, "not those that config.json states"),
        ({"long_factors": LONG_FACTORS[::-1]}, "not those that config.json states"),
        ({"long_factors": ()}, "disagree on whether long requests"),
        ({"attention_factor": 1.0}, "not those that config.json states"),
        ({"original_context": 128}, "states 128 original positions, .* tables at 256"),
    ],
)
def test_a_configuration_of_another_model_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        check_rope(msgspec.structs.replace(STATED, **changes), longrope())
