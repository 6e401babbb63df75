"""An operator of a daemon in a process of its own: loads, unloads, and weighs what is left."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import psutil

from tests.daemon_process import Served, anonymous_mb, fetch

if TYPE_CHECKING:
    from pathlib import Path

KEY = "operator-key-0123456789"
WARM_UP = 5


def key_file(folder: Path) -> str:
    """Return a file that holds `KEY`, for `EDGE_AGENT_HTTP__ADMIN_KEY_FILE`."""
    path = folder / "admin-keys"
    path.write_text(KEY)
    return str(path)


def order(served: Served, verb: str) -> tuple[int, dict[str, Any]]:
    """Do one of the verbs of `/admin`."""
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{served.url}/admin/{verb}"
    return fetch(urllib.request.Request(url, b"{}", headers))  # noqa: S310  # loopback


def cycled_kb(served: Served, cycles: int) -> list[float]:
    """Load, ask and unload so often; return the daemon's own kB of memory after each time.

    The engine must be gone whenever the daemon says so, and answer whenever it is back.
    """
    daemon = psutil.Process(served.process.pid)
    weights_kb = []
    for _ in range(cycles):
        assert order(served, "load") == (200, {"state": "ready", "detail": _ready(served)})
        assert served.ask("one two three", max_tokens=4)[0] == 200
        status, told = order(served, "unload")
        assert (status, told["state"]) == (200, "unloaded")
        assert daemon.children() == []
        weights_kb.append(anonymous_mb(daemon) * 1e3)
    return weights_kb


def _ready(served: Served) -> str:
    return str(served.health()["detail"])


def slope_kb(weights_kb: list[float]) -> float:
    """Return by how much each cycle made the daemon heavier (least squares, warm-up apart)."""
    ys = weights_kb[WARM_UP:]
    middle = (len(ys) - 1) / 2
    mean = sum(ys) / len(ys)
    over = sum((x - middle) * (y - mean) for x, y in enumerate(ys))
    return over / sum((x - middle) ** 2 for x in range(len(ys)))
