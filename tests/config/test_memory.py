"""The section `memory`: its sizes as bytes."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.config import Memory


def test_the_budget_is_what_is_there_unless_named() -> None:
    assert Memory().budget_bytes is None
    assert msgspec.convert({"budget": "3GB"}, Memory).budget_bytes == 3_000_000_000
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"budget": 5}, Memory)


def test_the_reserve_is_bytes_or_text() -> None:
    assert Memory().reserve_bytes == 256 << 20
    assert msgspec.convert({"reserve": 0}, Memory).reserve_bytes == 0


@pytest.mark.parametrize("key", ["budget", "reserve"])
def test_what_is_no_size_is_refused_by_key(key: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"memory.{key}: expected"):
        msgspec.convert({key: "3 gigabytes"}, Memory)
