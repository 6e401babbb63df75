"""All sections together: somebody answers, and has a name."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest

from edge_agent.config import Config

PEER = {"name": "a", "kind": "openai", "url": "http://192.0.2.1", "model": "m", "zone": "site"}


def test_without_a_model_peers_answer() -> None:
    config = msgspec.convert({"model": None, "peers": [PEER]}, Config)
    assert config.default_model == "m"
    assert Config().default_model == Config().model


@pytest.mark.parametrize("more", [{}, {"peers": [PEER], "routing": {"fallback": "never"}}])
def test_somebody_has_to_answer(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="model is null, and no peer may answer"):
        msgspec.convert({"model": None, **more}, Config)


def test_a_gateway_is_called_as_configured_or_as_its_host() -> None:
    assert msgspec.convert({"mqtt": {"node": "gw1"}}, Config).node == "gw1"
    assert Config().node == socket.gethostname()
