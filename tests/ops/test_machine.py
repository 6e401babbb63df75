"""What a machine says of itself, from files of its kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.ops.machine import Machine, look

MEMINFO = "MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable:    3000000 kB\nSwapTotal: 100 kB\n"
KB = 1024


def at(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return look(root / "home" / "that" / "is" / "not" / "there", root)


def test_this_machine_can_be_looked_at() -> None:
    machine = look(Path.home())
    assert machine.memory_bytes is not None
    assert machine.free_bytes is not None
    assert 0 < machine.free_bytes <= machine.memory_bytes
    assert machine.bits in {32, 64}
    assert machine.disk_free_bytes > 0


def test_memory_is_told_in_bytes_and_swap_apart(tmp_path: Path) -> None:
    machine = at(tmp_path, {"proc/meminfo": MEMINFO})
    assert machine.memory_bytes == 4_000_000 * KB
    assert machine.free_bytes == machine.available_bytes == 3_000_000 * KB
    assert machine.swap_bytes == 100 * KB
    assert machine.limit_bytes is None


def test_a_machine_that_says_nothing_is_known_as_such(tmp_path: Path) -> None:
    machine = at(tmp_path, {})
    assert machine.cpu is None
    assert machine.features == ()
    assert machine.memory_bytes is None
    assert machine.free_bytes is None


def test_x86_names_its_features_and_model(tmp_path: Path) -> None:
    cpuinfo = (
        "model name\t: N100\nflags\t\t: sse avx2 fma\n\nmodel name\t: other\nflags\t: amx_int8\n"
    )
    machine = at(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert machine.cpu == "N100"
    assert machine.features == ("avx2", "fma")


def test_arm_names_its_features_and_the_board(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor: 0\nFeatures : fp asimd asimddp\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B\0",
    }
    machine = at(tmp_path, files)
    assert machine.cpu == "Raspberry Pi 5 Model B"
    assert machine.features == ("asimd", "asimddp")


def test_the_least_limit_of_all_groups_above_counts_in_version_2(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/box/service\n",
        "sys/fs/cgroup/box/memory.max": "2000000\n",
        "sys/fs/cgroup/box/memory.current": "1500000\n",
        "sys/fs/cgroup/box/memory.stat": "anon 5\ninactive_file 1000000\n",
        "sys/fs/cgroup/box/service/memory.max": "max\n",
        "sys/fs/cgroup/box/service/memory.current": "1000\n",
    }
    machine = at(tmp_path, files)
    assert machine.limit_bytes == 2_000_000
    assert machine.limit_free_bytes == machine.free_bytes == 1_500_000


def test_version_1_has_other_names_and_a_number_for_no_limit(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:devices:/\n4:cpu,memory:/box\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "7\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "3000\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "5000\n",
        "sys/fs/cgroup/memory/box/memory.stat": "total_inactive_file 1000\n",
    }
    machine = at(tmp_path, files)
    assert machine.limit_bytes == 3000
    assert machine.limit_free_bytes == 0


def test_inside_a_container_the_path_may_be_the_hosts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../../host/path\n",
        "sys/fs/cgroup/memory.max": "4096\n",
        "sys/fs/cgroup/memory.current": "96\n",
    }
    assert at(tmp_path, files).limit_free_bytes == 4000


@pytest.mark.parametrize("text", ["", "MemTotal: many kB\n", "nonsense", "MemTotal:\n"])
def test_nonsense_is_not_guessed_from(tmp_path: Path, text: str) -> None:
    assert at(tmp_path, {"proc/meminfo": text}).memory_bytes is None


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc" / "meminfo").mkdir(parents=True)
    assert look(tmp_path, tmp_path).memory_bytes is None
