"""Cores that count: affinity and the quotas of both cgroup versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_agent.ops.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", MINE),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("110000 100000", min(2, MINE)),
        ("99900000 100000", MINE),
        ("nonsense", MINE),
    ],
)
def test_a_quota_of_version_2_limits_threads(tmp_path: Path, cpu_max: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{cpu_max}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", MINE), ("100000", 1), ("20000", 1)])
def test_a_quota_of_version_1_limits_threads(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == cores


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == MINE
