"""The probe reads: what it says is a speed that some memory can have."""

from __future__ import annotations

import pytest

from edge_agent.cli.bandwidth import read_gb_s


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_read_at_some_speed(threads: int) -> None:
    assert 0.01 < read_gb_s(threads=threads, reps=1) < 10_000
