"""Reads what this machine is and has: CPU, memory, limits of its control groups, disk.

Every path can be injected. What cannot be read is None, never a guess.
"""

from __future__ import annotations

import platform
import shutil
import struct
from pathlib import Path

from msgspec import Struct

from edge_agent.ops.cgroup import groups
from edge_agent.ops.procfs import kib_as_bytes, read_pairs, read_text

# CPU features that decide which kernels run, as the kernel names them; the rest is noise.
FEATURES = (
    *("avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


class Machine(Struct, frozen=True, kw_only=True):
    """One look at the machine."""

    arch: str
    bits: int
    """Width of a pointer of this Python."""
    cpu: str | None
    features: tuple[str, ...]
    glibc: str | None
    """Version, or None with another C library."""
    memory_bytes: int | None
    available_bytes: int | None
    """What programs can still take without swapping (MemAvailable)."""
    swap_bytes: int
    limit_bytes: int | None
    """The least memory limit of our control group and those above it; None without one."""
    limit_free_bytes: int | None
    """The least that such a group still lets us take."""
    disk_free_bytes: int

    @property
    def free_bytes(self) -> int | None:
        """Memory that may still be taken here; None if the machine does not say."""
        known = [v for v in (self.available_bytes, self.limit_free_bytes) if v is not None]
        return min(known, default=None)


def look(home: Path, root: Path = Path("/")) -> Machine:
    """Look at the machine whose files are below `root`; `home` is where models are kept."""
    cpuinfo = read_pairs(root / "proc/cpuinfo")
    meminfo = read_pairs(root / "proc/meminfo")
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    limited = [group for group in groups(root) if group.limit_bytes is not None]
    libc, version = platform.libc_ver()
    return Machine(
        arch=platform.machine(),
        bits=8 * struct.calcsize("P"),
        cpu=cpuinfo.get("model name") or _device_tree_model(root),
        features=tuple(name for name in FEATURES if name in flags),
        glibc=version if libc == "glibc" else None,
        memory_bytes=kib_as_bytes(meminfo, "MemTotal"),
        available_bytes=kib_as_bytes(meminfo, "MemAvailable"),
        swap_bytes=kib_as_bytes(meminfo, "SwapTotal") or 0,
        limit_bytes=min((group.limit_bytes or 0 for group in limited), default=None),
        limit_free_bytes=min((group.free_bytes or 0 for group in limited), default=None),
        disk_free_bytes=shutil.disk_usage(_existing(home)).free,
    )


def _device_tree_model(root: Path) -> str | None:
    """Return the board's name: ARM's cpuinfo has no model name."""
    text = read_text(root / "proc/device-tree/model")
    return text.strip("\0\n") if text else None


def _existing(path: Path) -> Path:
    """Return the nearest directory above `path` that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
