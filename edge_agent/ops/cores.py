"""Counts the cores this process may really use, and tells which of them are the fast ones.

What counts: affinity, the CPU quota of our cgroups, cores and not their hyperthreads (a product
keeps a core's arithmetic busy by itself), and of unequal cores the fast ones: the parts of a
product are equal, so a slow core keeps the fast ones waiting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CPU_ROOT = Path("/sys/devices/system/cpu")
# Linux' own scale of `cpu_capacity`, at which the fastest core stands; x86 does not tell.
_FULL_CAPACITY = 1024
# Of two sizes of cores the small ones have a half or less; bins of one size are closer than this.
_FAST_SHARE = 0.75


class Cpu(NamedTuple):
    """A processor as the kernel numbers them: a core, or one of its hyperthreads."""

    number: int
    core: int
    """The lowest number among the hyperthreads of its core."""
    capacity: int
    """Speed, relative to others of the machine."""


def usable_cores(cgroup_root: Path = _CGROUP_ROOT, cpu_root: Path = _CPU_ROOT) -> int:
    """Return how many compute threads make sense here, at least 1."""
    fast = fast_cpus(read_cpus(os.sched_getaffinity(0), cpu_root))
    return max(1, min(len({cpu.core for cpu in fast}), _quota_cores(cgroup_root)))


def cpus_to_keep_to(threads: int, cpu_root: Path = _CPU_ROOT) -> frozenset[int]:
    """Return the processors on which `threads` compute threads should stay, of those allowed.

    The fast ones if there are enough of them, else all.
    """
    allowed = os.sched_getaffinity(0)
    fast = fast_cpus(read_cpus(allowed, cpu_root))
    is_enough = len({cpu.core for cpu in fast}) >= threads
    return frozenset(cpu.number for cpu in fast) if is_enough else frozenset(allowed)


def fast_cpus(cpus: Collection[Cpu]) -> tuple[Cpu, ...]:
    """Return those of `cpus` that are about as fast as the fastest."""
    most = max((cpu.capacity for cpu in cpus), default=0)
    return tuple(cpu for cpu in cpus if cpu.capacity >= _FAST_SHARE * most)


def read_cpus(numbers: Iterable[int], root: Path = _CPU_ROOT) -> tuple[Cpu, ...]:
    """Return what `root` tells of processors; each is a full core of its own where it is silent."""
    return tuple(_read_cpu(number, root / f"cpu{number}") for number in sorted(numbers))


def _read_cpu(number: int, directory: Path) -> Cpu:
    siblings = _read(directory / "topology/thread_siblings_list")
    # A list like "0,64" or "0-3", the lowest first.
    first = siblings.replace("-", ",").split(",")[0]
    capacity = _read(directory / "cpu_capacity")
    return Cpu(
        number=number,
        core=int(first) if first.isdecimal() else number,
        capacity=int(capacity) if capacity.isdecimal() else _FULL_CAPACITY,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _quota_cores(root: Path) -> int:
    """Return the cores a container's quota allows (rounded up); a huge number without one."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 1 << 16
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return 1 << 16  # "max" and -1 mean no limit
    return -(-int(quota) // int(period))
