"""The section `engine`: what no single constraint can check."""

from __future__ import annotations

import pytest

from edge_agent import config
from edge_agent.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("auto", None), ("0", 0), ("1048576", 1 << 20), ("512MiB", 512 << 20)]
)
def test_the_budget_of_prefixes_is_a_size(text: str, size_bytes: int | None) -> None:
    read = config.load(None, {"EDGE_AGENT_ENGINE__PREFIX_BYTES": text})

    assert read.engine.most_prefix_bytes == size_bytes


@pytest.mark.parametrize("text", ["much", "-1MiB"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.prefix_bytes: expected bytes or a size"):
        config.load(None, {"EDGE_AGENT_ENGINE__PREFIX_BYTES": text})
