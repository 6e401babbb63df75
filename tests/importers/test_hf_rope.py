"""Rotation facts against the numbers of transformers 5.19."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.hf_rope import attention_factor, read_rope

PAIRS = 6
SHORT, LONG = tuple(1 + i / 10 for i in range(PAIRS)), tuple(1.0 + i for i in range(PAIRS))
BESIDE = {
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": 4096,
}
LONGROPE: dict[str, Any] = {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}
OLD: dict[str, Any] = BESIDE | {"rope_scaling": LONGROPE}
LLAMA3: dict[str, Any] = {
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
# Of ROPE_INIT_FUNCTIONS["llama3"] for Llama-3.2-1B: theta 500,000, 64 dims.
LLAMA3_FREQUENCIES = [
    *(1.0, 0.663601279, 0.440366626, 0.292227834, 0.193922758, 0.128687382, 0.0853971019),
    *(0.0566696189, 0.0376060307, 0.0249554086, 0.0165604409, 0.0109895291, 0.00729266508),
    *(0.00483942125, 0.00321144611, 0.00129054801, 0.000429556705, 9.70828623e-05),
    *(1.94616387e-05, 1.29147675e-05, 8.57025589e-06, 5.68723226e-06, 3.77405445e-06),
    *(2.50446715e-06, 1.66196742e-06, 1.10288363e-06, 7.31874934e-07, 4.85673127e-07),
    *(3.22293289e-07, 2.1387423e-07, 1.41927202e-07, 9.41830649e-08),
]


@pytest.mark.parametrize(
    "config",
    [
        OLD,
        OLD | {"rope_scaling": LONGROPE | {"type": "su"}},
        {"rope_parameters": {**BESIDE, **LONGROPE, "rope_type": "longrope"}},
        # As transformers 5 writes them: some facts twice.
        {
            "rope_parameters": {**BESIDE, **LONGROPE, "rope_type": "longrope"},
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
            "rope_scaling": None,
        },
    ],
)
def test_longrope_is_read_in_every_spelling(config: dict[str, Any]) -> None:
    rope = read_rope(config, head_dim=16, context=131_072)

    assert (rope.theta, rope.dims, rope.original_context) == (10_000.0, 12, 4096)
    assert (rope.short_factors, rope.long_factors) == (SHORT, LONG)
    assert rope.attention_factor == pytest.approx(1.1902380714238083, rel=1e-15)


@pytest.mark.parametrize(
    ("facts", "context", "expected"),
    [
        ({"attention_factor": 1.5}, 131_072, 1.5),
        ({"factor": 8.0}, 131_072, 1.118033988749895),
        ({}, 4096, 1.0),
        ({}, 2048, 1.0),
    ],
)
def test_the_attention_factor_is_stated_or_follows(
    facts: dict[str, float], context: int, expected: float
) -> None:
    config = OLD | {"rope_scaling": LONGROPE | facts}

    found = read_rope(config, head_dim=16, context=context).attention_factor

    assert found == pytest.approx(expected, rel=1e-15)


def test_the_attention_factor_of_a_context_of_one_token_is_one() -> None:
    assert attention_factor(scale=4.0, original_context=1) == 1.0


def test_llama3_divides_frequencies_as_transformers_does() -> None:
    rope = read_rope(LLAMA3, head_dim=64, context=131_072)

    exponents = np.arange(0, 64, 2) / 64
    frequencies = 1 / (np.array(rope.short_factors) * rope.theta**exponents)
    np.testing.assert_allclose(frequencies, LLAMA3_FREQUENCIES, rtol=1e-6)
    assert (rope.original_context, rope.long_factors) == (131_072, ())
    assert rope.attention_factor == 1.0


def test_linear_scaling_divides_all_frequencies() -> None:
    config = {"rope_scaling": {"type": "linear", "factor": 4.0}}

    assert read_rope(config, head_dim=16, context=64).short_factors == (4.0,) * 8


@pytest.mark.parametrize(
    "config",
    [{}, {"rope_scaling": None}, {"rope_parameters": {"rope_type": "default", "factor": None}}],
)
def test_without_scaling_there_are_no_factors(config: dict[str, Any]) -> None:
    rope = read_rope(config, head_dim=16, context=64)

    assert (rope.theta, rope.dims, rope.original_context) == (10_000.0, 16, 64)
    assert (rope.short_factors, rope.long_factors) == ((), ())


def changed(name: str, value: Any) -> dict[str, Any]:
    return OLD | {"rope_scaling": LONGROPE | {name: value}}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "of type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "yarn", "beta_fast": 32}}, "of type 'yarn'"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "of type ['linear']"),
        ({"rope_scaling": [1]}, "rope_parameters: list, not an object"),
        (
            {"rope_scaling": {"rope_theta": 1.0}, "rope_parameters": {"rope_theta": 2.0}},
            "both there and differ",
        ),
        (
            {"rope_parameters": {"rope_theta": 1.0}, "rope_theta": 2.0},
            "rope_theta is stated twice: 1.0 and 2.0",
        ),
        (changed("short_mscale", 1.1), "unknown field `short_mscale`"),
        (changed("mrope_section", [1]), "unknown field `mrope_section`"),
        (changed("short_factor", None), "short_factor is missing"),
        (changed("short_factor", SHORT[1:]), "5 numbers in short_factor, expected 6"),
        (changed("long_factor", (*LONG, 1.0)), "7 numbers in long_factor, expected 6"),
        (changed("long_factor", ("1",) * 6), "Expected `float`, got `str` - at `$.long_factor[0]`"),
        (changed("long_factor", (0,) * 6), "Expected `float` > 0.0 - at `$.long_factor[0]`"),
        (changed("factor", True), "got `bool` - at `$.factor`"),
        (OLD | {"original_max_position_embeddings": None}, "max_position_embeddings is missing"),
        (OLD | {"original_max_position_embeddings": -1}, "Expected `int` >= 1"),
        (OLD | {"rope_theta": float("inf")}, "`$.rope_theta`"),
        (OLD | {"partial_rotary_factor": 2.0}, "`$.partial_rotary_factor`"),
        (OLD | {"partial_rotary_factor": 0.2}, "3 of 16 dims, which are no pairs"),
        (OLD | {"partial_rotary_factor": 0.01}, "0 of 16 dims"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
        (
            LLAMA3 | {"rope_scaling": LLAMA3["rope_scaling"] | {"low_freq_factor": 4.0}},
            "low_freq_factor 4.0 is not below high_freq_factor 4.0",
        ),
        (
            LLAMA3 | {"rope_scaling": LLAMA3["rope_scaling"] | {"high_freq_factor": None}},
            "high_freq_factor is missing",
        ),
    ],
)
def test_facts_that_are_wrong_are_named(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_rope(config, head_dim=16, context=131_072)

    assert problem in str(caught.value)
