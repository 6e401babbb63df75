"""Sizes as people write them: bytes or text with a unit, and a sentence about anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.units import size_bytes


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [
        (0, 0),
        (123, 123),
        ("123", 123),
        ("1KB", 1000),
        ("256MiB", 256 << 20),
        ("3GB", 3_000_000_000),
        ("1.5 GB", 1_500_000_000),
        ("1.5 GiB", 3 << 29),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_bytes_or_text(size: int | str, num_bytes: int) -> None:
    assert size_bytes("memory.reserve", size) == num_bytes


@pytest.mark.parametrize(
    "size",
    ["", "MiB", "1 XB", "-1", "-1MiB", "1e9", "12 parsecs", "3 gigabytes", "1,5GB", "\u0661GB"],
)
def test_other_text_is_refused_by_key(size: str) -> None:
    with pytest.raises(ValueError, match=r"^memory\.reserve: expected bytes or a size like"):
        size_bytes("memory.reserve", size)


@given(num_bytes=st.integers(0, 10**15 - 1))
def test_every_number_of_bytes_can_be_written(num_bytes: int) -> None:
    assert size_bytes("memory.reserve", f"{num_bytes} B") == num_bytes
