"""Reads a systemd unit as plain values; knows nothing about what they mean."""

from __future__ import annotations

from pathlib import Path

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "edge-agent.service"
STRICT_NETWORK = SYSTEMD / "strict-network.conf"
# Where the unit expects the program; a machine that tests has none there.
PROGRAM = "/opt/edge-agent/bin/edge-agent"


def settings(path: Path) -> dict[str, list[str]]:
    """Return every `Key=value` of the unit at `path`, in order; a key may occur several times."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def with_drop_in(unit: Path, drop_in: Path) -> str:
    """Return `unit` with the lines of `drop_in` merged into its [Service] section."""
    lines = drop_in.read_text().split("[Service]\n")[1]
    return unit.read_text().replace("\n[Install]", f"{lines}\n[Install]")
