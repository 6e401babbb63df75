"""Counts the cores this process may really use: affinity and the CPU quota of its cgroups."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Return how many compute threads make sense here, at least 1."""
    return max(1, min(len(os.sched_getaffinity(0)), _quota_cores(cgroup_root)))


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
