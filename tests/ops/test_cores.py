"""Cores that count: affinity, quotas of both cgroup versions, hyperthreads and unequal cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ops.cores import Cpu, cpus_to_keep_to, fast_cpus, read_cpus, usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

# On whatever machine the tests run: without a word of its cores, each is one of its own.
MINE = len(os.sched_getaffinity(0))
SILENT = Path("/nonexistent")
# RK3588: four A55 and four A76; a phone's one, three and four; a server with two threads per core.
ROCK = {n: (str(n), 530 if n < 4 else 1024) for n in range(8)}
PHONE = {n: (str(n), (1024, 870, 870, 870, 325, 325, 325, 325)[n]) for n in range(8)}
SERVER = {n: (f"{n % 4},{n % 4 + 4}", None) for n in range(8)}
PAIRS = {n: (f"{n - n % 2}-{n - n % 2 + 1}", None) for n in range(4)}


def tree(root: Path, cpus: Mapping[int, tuple[str, int | None]]) -> Path:
    """Write what the kernel tells of `cpus`: siblings, and capacity where it is known."""
    for number, (siblings, capacity) in cpus.items():
        topology = root / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
        if capacity is not None:
            (root / f"cpu{number}" / "cpu_capacity").write_text(f"{capacity}\n")
    return root


@pytest.mark.parametrize(
    ("cpus", "fast", "cores"),
    [
        (ROCK, [4, 5, 6, 7], 4),
        (PHONE, [0, 1, 2, 3], 4),
        (SERVER, list(range(8)), 4),
        (PAIRS, list(range(4)), 2),
    ],
)
def test_fast_cores_count_and_hyperthreads_do_not(
    tmp_path: Path, cpus: Mapping[int, tuple[str, int | None]], fast: list[int], cores: int
) -> None:
    found = fast_cpus(read_cpus(cpus, tree(tmp_path, cpus)))

    assert [cpu.number for cpu in found] == fast
    assert len({cpu.core for cpu in found}) == cores


def test_nonsense_is_as_good_as_silence(tmp_path: Path) -> None:
    tree(tmp_path, {0: ("", None), 1: ("what?", None)})
    (tmp_path / "cpu1" / "cpu_capacity").write_text("fast\n")

    assert read_cpus([0, 1], tmp_path) == read_cpus([0, 1], SILENT)


@given(
    st.lists(
        st.builds(Cpu, st.integers(0, 63), st.integers(0, 31), st.integers(1, 1024)), min_size=1
    )
)
def test_the_fastest_is_always_among_the_fast(cpus: list[Cpu]) -> None:
    fast = fast_cpus(cpus)

    assert max(cpus, key=lambda cpu: cpu.capacity) in fast
    left = [cpu.capacity for cpu in cpus if cpu not in fast]
    assert all(capacity < min(cpu.capacity for cpu in fast) for capacity in left)


def test_threads_keep_to_fast_cores_if_those_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    root = tree(tmp_path, ROCK)

    assert cpus_to_keep_to(4, root) == {4, 5, 6, 7}
    assert cpus_to_keep_to(5, root) == set(range(8))
    assert usable_cores(SILENT, root) == 4


def test_what_affinity_forbids_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4})
    root = tree(tmp_path, ROCK)

    assert usable_cores(SILENT, root) == 1
    assert cpus_to_keep_to(1, root) == {4}
    assert cpus_to_keep_to(2, root) == {0, 1, 4}


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
    assert usable_cores(tmp_path, SILENT) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", MINE), ("100000", 1), ("20000", 1)])
def test_a_quota_of_version_1_limits_threads(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, SILENT) == cores


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, SILENT) == MINE
