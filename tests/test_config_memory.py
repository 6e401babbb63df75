"""Sizes as people write them, and a gateway without a model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge_agent.config import Config, Memory

PEER = {"name": "a", "kind": "openai", "url": "http://192.0.2.1", "model": "m", "zone": "site"}


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [
        (0, 0),
        (123, 123),
        ("123", 123),
        ("1KB", 1000),
        ("256MiB", 256 << 20),
        ("3GB", 3_000_000_000),
        ("1.5 GiB", 3 << 29),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_bytes_or_text(size: int | str, num_bytes: int) -> None:
    assert msgspec.convert({"reserve": size}, Memory).reserve_bytes == num_bytes


@pytest.mark.parametrize(
    "size", ["", "MiB", "1 XB", "-1", "1e9", "3 gigabytes", "1,5GB", "\u0661GB"]
)
def test_other_text_is_refused_by_key(size: str) -> None:
    for key in ("budget", "reserve"):
        with pytest.raises(msgspec.ValidationError, match=f"memory.{key}: expected"):
            msgspec.convert({key: size}, Memory)


def test_the_budget_is_what_is_there_unless_named() -> None:
    assert Memory().budget_bytes is None
    assert msgspec.convert({"budget": "3GB"}, Memory).budget_bytes == 3_000_000_000
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"budget": 5}, Memory)


def test_without_a_model_peers_answer() -> None:
    config = msgspec.convert({"model": None, "peers": [PEER]}, Config)
    assert config.default_model == "m"
    assert Config().default_model == Config().model


@pytest.mark.parametrize("more", [{}, {"peers": [PEER], "routing": {"fallback": "never"}}])
def test_somebody_has_to_answer(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="model is null, and no peer may answer"):
        msgspec.convert({"model": None, **more}, Config)
