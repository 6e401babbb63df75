"""Where state lives on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def home_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where state lives: `$EDGE_AGENT_HOME`, systemd's `$STATE_DIRECTORY`, or per XDG."""
    if home := environ.get("EDGE_AGENT_HOME"):
        return Path(home)
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    data = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/root")) / ".local" / "share"
    return Path(data) / "edge-agent"
