"""What the kernel tells of one process. Nothing here decides or changes anything."""

from __future__ import annotations

import signal
from pathlib import Path

from edge_agent.ops.procfs import read_pairs

# /proc/PID/status has the signals that wait for delivery as hexadecimal masks, signal 1 first.
_KILL_BIT = 1 << (signal.SIGKILL - 1)


def is_ending(pid: int, root: Path = Path("/")) -> bool:
    """Tell whether process `pid` is gone, a zombie, or about to die of a SIGKILL it was sent."""
    status = read_pairs(root / f"proc/{pid}/status")
    if not status or status.get("State", "")[:1] in {"Z", "X"}:
        return True
    pending = (status.get(name, "0") for name in ("SigPnd", "ShdPnd"))
    return any(int(mask, 16) & _KILL_BIT for mask in pending)
