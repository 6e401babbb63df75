"""Reads what this machine is and has: CPU, memory, limits of its control groups, disk.

Every path can be injected. What cannot be read is None, never a guess.
"""

from __future__ import annotations

import platform
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

# CPU features that decide which kernels run, as the kernel names them; the rest is noise.
FEATURES = (
    *("avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
_KIB = 1024
# Limits this high are the kernel's way to say that there is none (cgroup version 1).
_NO_LIMIT_BYTES = 1 << 60


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
    cpuinfo = _pairs(root / "proc/cpuinfo")
    meminfo = _pairs(root / "proc/meminfo")
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    limits = list(_limits(root))
    libc, version = platform.libc_ver()
    return Machine(
        arch=platform.machine(),
        bits=8 * struct.calcsize("P"),
        cpu=cpuinfo.get("model name") or _device_tree_model(root),
        features=tuple(name for name in FEATURES if name in flags),
        glibc=version if libc == "glibc" else None,
        memory_bytes=_kib(meminfo, "MemTotal"),
        available_bytes=_kib(meminfo, "MemAvailable"),
        swap_bytes=_kib(meminfo, "SwapTotal") or 0,
        limit_bytes=min((limit for limit, _ in limits), default=None),
        limit_free_bytes=min((max(0, limit - used) for limit, used in limits), default=None),
        disk_free_bytes=shutil.disk_usage(_existing(home)).free,
    )


def _pairs(path: Path) -> dict[str, str]:
    """Return the first value of each `key : value` line."""
    pairs: dict[str, str] = {}
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(":")
        pairs.setdefault(key.strip(), value.strip())
    return pairs


def _kib(pairs: dict[str, str], key: str) -> int | None:
    number = pairs.get(key, "").removesuffix("kB").strip()
    return int(number) * _KIB if number.isdecimal() else None


def _device_tree_model(root: Path) -> str | None:
    """Return the board's name: ARM's cpuinfo has no model name."""
    text = _read(root / "proc/device-tree/model")
    return text.strip("\0\n") if text else None


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield (limit, bytes in use that cannot be dropped) of our groups and all above them."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        yield from _group_limits(top, path, names)


def _group_limits(top: Path, path: str, names: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    limit_name, used_name, droppable_name = names
    # Inside a container the path may be the host's: what is not there is not ours to see.
    group = top / path.lstrip("/")
    for directory in (group, *group.parents):
        limit = (_read(directory / limit_name) or "").strip()
        used = (_read(directory / used_name) or "").strip()
        if limit.isdecimal() and used.isdecimal() and int(limit) < _NO_LIMIT_BYTES:
            droppable = _stat(directory / "memory.stat", droppable_name)
            yield int(limit), int(used) - droppable
        if directory == top:
            return


def _stat(path: Path, name: str) -> int:
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _existing(path: Path) -> Path:
    """Return the nearest directory above `path` that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
