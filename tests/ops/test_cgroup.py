"""Control groups of both versions, from trees of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.ops.cgroup import groups, tightest
from tests.ops.trees import V1, V2, group_v1, group_v2, plant

if TYPE_CHECKING:
    from pathlib import Path

NO_LIMIT_V1 = 9223372036854771712


def test_without_control_groups_there_are_none(tmp_path: Path) -> None:
    assert groups(tmp_path) == ()
    assert tightest(()) is None


def test_our_own_group_comes_first_and_the_tightest_is_found_above(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box/service\n",
        **group_v2(f"{V2}/box/service", limit=9000, used=1000),
        **group_v2(f"{V2}/box", limit=5000, used=4000, file=1000),
    }
    found = groups(plant(tmp_path, files))
    assert [group.directory.name for group in found] == ["service", "box"]
    assert [group.free_bytes for group in found] == [8000, 2000]
    assert tightest(found) is found[1]


def test_page_cache_and_slab_make_room_the_recently_used_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a\n",
        **group_v2(f"{V2}/a", limit=10_000, used=9000),
        f"{V2}/a/memory.stat": "inactive_file 1000\nactive_file 4000\nslab_reclaimable 500\n",
    }
    assert groups(plant(tmp_path, files))[0].free_bytes == 10_000 - (9000 - 5500)


def test_a_soft_limit_ends_memory_before_the_hard_one(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a\n",
        **group_v2(f"{V2}/a", limit="max", used=100, memory_high="600\n"),
        f"{V2}/a/memory.events": "low 0\nhigh 7\nmax 0\noom 1\noom_kill 3\n",
    }
    (group,) = groups(plant(tmp_path, files))
    assert (group.limit_bytes, group.high_events, group.oom_kills) == (600, 7, 3)


def test_max_is_no_limit(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", **group_v2(f"{V2}/a", limit="max", used=100)}
    (group,) = groups(plant(tmp_path, files))
    assert group.limit_bytes is None
    assert group.free_bytes is None
    assert tightest((group,)) is None


def test_version_1_counts_what_is_below_and_knows_no_limit_by_a_number(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:devices:/\n4:cpu,memory:/box/a\n0::/\n",
        **group_v1(V1, limit=NO_LIMIT_V1, used=7),
        **group_v1(f"{V1}/box", limit=NO_LIMIT_V1, used=7),
        **group_v1(f"{V1}/box/a", limit=3000, used=2500, file=1000, refaults=4),
    }
    found = groups(plant(tmp_path, files))
    assert [group.free_bytes for group in found] == [1500, None, None]
    assert (found[0].refaults, found[0].high_events, found[0].oom_kills) == (4, None, 2)


def test_on_a_hybrid_machine_memory_is_found_where_it_is(tmp_path: Path) -> None:
    v1 = {
        "proc/self/cgroup": "4:memory:/a\n0::/b\n",
        "sys/fs/cgroup/unified/b/cgroup.procs": "1\n",
        **group_v1(f"{V1}/a", limit=3000, used=1000),
    }
    assert [group.free_bytes for group in groups(plant(tmp_path / "1", v1))] == [2000]
    v2 = {
        "proc/self/cgroup": "4:devices:/a\n0::/b\n",
        **group_v2("sys/fs/cgroup/unified/b", limit=3000, used=500),
    }
    assert [group.free_bytes for group in groups(plant(tmp_path / "2", v2))] == [2500]


def test_inside_a_container_the_name_may_be_the_hosts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../../host/name\n",
        **group_v2(V2, limit=4096, used=96),
    }
    assert [group.free_bytes for group in groups(plant(tmp_path, files))] == [4000]


def test_more_in_use_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", **group_v2(f"{V2}/a", limit=100, used=400)}
    assert groups(plant(tmp_path, files))[0].free_bytes == 0


def test_more_cache_told_than_in_use_is_no_gain(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", **group_v2(f"{V2}/a", limit=100, used=10, file=50)}
    assert groups(plant(tmp_path, files))[0].free_bytes == 100


def test_nonsense_in_the_list_of_groups_is_passed_over(tmp_path: Path) -> None:
    assert groups(plant(tmp_path, {"proc/self/cgroup": "nonsense\n\n:::\n1:memory\n"})) == ()
