"""Looks at machines of every kind, from trees of files."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

from edge_agent.guard.sample import count_oom_kills, sample
from tests.ops.trees import (
    MEMINFO,
    MEMINFO_AVAILABLE_BYTES,
    MEMINFO_TOTAL_BYTES,
    PRESSURE,
    V1,
    V2,
    group_v1,
    group_v2,
    plant,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.guard.memory import Memory

GROUP = f"{V2}/box/service"


def at(root: Path, files: dict[str, str], *, pids: tuple[int, ...] = ()) -> Memory:
    memory = sample(plant(root, files), pids=pids)
    assert memory is not None
    return memory


def test_bare_metal_has_what_the_kernel_says_and_swap_never_counts(tmp_path: Path) -> None:
    memory = at(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"})
    assert memory.available_bytes == memory.swift_bytes == MEMINFO_AVAILABLE_BYTES
    assert (memory.total_bytes, memory.bound) == (MEMINFO_TOTAL_BYTES, "machine")


def test_a_limit_of_version_2_is_nearer_than_the_machines_end(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(GROUP, limit=2_000_000, used=1_500_000, file=500_000),
    }
    memory = at(tmp_path, files)
    assert (memory.available_bytes, memory.total_bytes) == (1_000_000, 2_000_000)
    assert memory.bound == str(tmp_path / GROUP)


def test_max_means_the_machine(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(GROUP, limit="max", used=1_500_000),
    }
    assert at(tmp_path, files).available_bytes == MEMINFO_AVAILABLE_BYTES


def test_a_limit_that_the_machine_cannot_keep_is_not_believed(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(GROUP, limit=1 << 40, used=0),
    }
    assert at(tmp_path, files).bound == "machine"


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(f"{V2}/box", limit=2_000_000, used=1_900_000),
        **group_v2(GROUP, limit=1_000_000, used=100_000),
    }
    memory = at(tmp_path, files)
    assert (memory.available_bytes, memory.total_bytes) == (100_000, 2_000_000)


def test_version_1_and_hybrid(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "4:memory:/box\n0::/\n",
        **group_v1(f"{V1}/box", limit=3_000_000, used=2_500_000, file=100_000, refaults=9),
    }
    memory = at(tmp_path, files)
    assert memory.available_bytes == 600_000
    assert memory.file_bytes == 100_000
    assert memory.refault_bytes == 9 * mmap.PAGESIZE
    assert memory.high_events is None
    assert count_oom_kills(tmp_path) == 2


def test_without_control_groups_the_machine_tells_what_they_would(tmp_path: Path) -> None:
    vmstat = "nr_free_pages 4\nworkingset_refault_file 3\noom_kill 5\n"
    memory = at(tmp_path, {"proc/meminfo": MEMINFO, "proc/vmstat": vmstat})
    assert memory.file_bytes == 1_000_000 * 1024
    assert memory.refault_bytes == 3 * mmap.PAGESIZE
    assert count_oom_kills(tmp_path) == 5


def test_stalls_of_our_own_group_go_before_those_of_the_machine(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        "proc/pressure/memory": PRESSURE,
        **group_v2(GROUP, limit="max", used=1),
    }
    stall = at(tmp_path, files).stall
    assert stall is not None
    assert (stall.some_percent, stall.full_percent, stall.some_s) == (12.5, 4.25, 1.5)
    own = PRESSURE.replace("12.50", "1.00")
    stall = at(tmp_path, {f"{GROUP}/memory.pressure": own}).stall
    assert stall is not None
    assert stall.some_percent == 1.0


@pytest.mark.parametrize(
    "text", ["", "some avg10=1.0 total=5\n", "full\nsome\n", PRESSURE.replace("4.25", "much"), "="]
)
def test_without_stalls_told_there_are_none_to_know(tmp_path: Path, text: str) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/pressure/memory": text}
    assert at(tmp_path, files).stall is None


def test_processes_are_added_up_and_those_that_are_gone_count_nothing(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/7/status": "Name:\tx\nRssAnon:\t  10 kB\nRssFile:\t  4 kB\n",
        "proc/8/status": "Name:\tx\nRssAnon:\t  1 kB\nRssFile:\t  2 kB\n",
        "proc/9/status": "Name:\tzombie\nState:\tZ (zombie)\n",
    }
    memory = at(tmp_path, files, pids=(7, 8, 9, 10))
    assert (memory.rss_anon_bytes, memory.rss_file_bytes) == (11 * 1024, 6 * 1024)
    assert memory.swift_bytes == memory.available_bytes - 6 * 1024


def test_a_machine_that_says_nothing_is_known_as_such(tmp_path: Path) -> None:
    assert sample(tmp_path) is None
    assert sample(plant(tmp_path, {"proc/meminfo": "MemTotal: 4 kB\n"})) is None


def test_kills_that_nobody_counts_are_not_known(tmp_path: Path) -> None:
    assert count_oom_kills(tmp_path) is None


def test_a_limit_is_enough_where_the_machine_says_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(GROUP, limit=1000, used=100),
    }
    assert at(tmp_path, files).available_bytes == 900


def test_this_machine_can_be_looked_at() -> None:
    memory = sample(pids=(os.getpid(),))
    assert memory is not None
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert memory.rss_anon_bytes > 1 << 20
