"""Position tables: one row per position, long rows after the short ones."""

import numpy as np

from edge_agent.engine.rope import rope_tables
from edge_agent.modelstore.manifest import Rope


def test_a_plain_table_is_position_times_frequency() -> None:
    tables = rope_tables(Rope(theta=10_000.0, dims=8, original_context=64), capacity=64)

    frequencies = 10_000.0 ** (-np.arange(0, 8, 2) / 8)
    angles = np.outer(np.arange(64), frequencies)
    assert tables.cos.dtype == tables.sin.dtype == np.float32
    assert np.allclose(tables.cos, np.cos(angles), atol=1e-5)
    assert np.allclose(tables.sin, np.sin(angles), atol=1e-5)
    assert tables.short_limit == 64


def test_long_rows_follow_the_short_ones_and_both_carry_the_attention_factor() -> None:
    rope = Rope(
        theta=10_000.0,
        dims=4,
        original_context=16,
        short_factors=(1.0, 1.0),
        long_factors=(2.0, 4.0),
        attention_factor=1.5,
    )
    tables = rope_tables(rope, capacity=32)

    assert tables.cos.shape == (16 + 32, 2)
    assert (tables.short_limit, tables.long_offset) == (16, 16)
    position = 5
    long = position * np.array([1 / 2, 1 / 4 / 100])
    assert np.allclose(tables.cos[tables.long_offset + position], 1.5 * np.cos(long), atol=1e-6)
    assert np.allclose(tables.sin[position], 1.5 * np.sin(position * np.array([1, 0.01])))


def test_long_rows_are_left_out_where_no_request_can_reach_them() -> None:
    rope = Rope(theta=1e4, dims=4, original_context=64, long_factors=(2.0, 2.0))

    assert rope_tables(rope, capacity=64).cos.shape == (64, 2)
