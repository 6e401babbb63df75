"""Where state lives: what is said first, then systemd's place, then the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import home_dir

USER = {"HOME": "/home/u"}
XDG = USER | {"XDG_DATA_HOME": "/data"}
UNIT = XDG | {"STATE_DIRECTORY": "/var/lib/edge-agent:/var/lib/more"}
NAMED = UNIT | {"EDGE_AGENT_HOME": "/srv/edge"}


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({}, "/root/.local/share/edge-agent"),
        (USER, "/home/u/.local/share/edge-agent"),
        (XDG, "/data/edge-agent"),
        (UNIT, "/var/lib/edge-agent"),
        (NAMED, "/srv/edge"),
    ],
)
def test_the_nearest_word_decides(environ: dict[str, str], home: str) -> None:
    assert home_dir(environ) == Path(home)
