"""One seed for all chance of a test, told when the test fails."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """Return the seed in $EDGE_TEST_CHAOS_SEED, else a new one."""
    seed = int(os.environ.get("EDGE_TEST_CHAOS_SEED") or secrets.randbelow(1 << 32))
    print(f"to repeat: EDGE_TEST_CHAOS_SEED={seed}")  # noqa: T201  # pytest shows it on failure
    return seed
