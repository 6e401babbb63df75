"""Trees of files as kernels of several kinds would show them, for tests of what reads memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = """\
MemTotal: 4000000 kB
MemFree: 100000 kB
MemAvailable: 3000000 kB
Active(file): 800000 kB
Inactive(file): 200000 kB
SwapTotal: 9000000 kB
SwapFree: 9000000 kB
"""
MEMINFO_AVAILABLE_BYTES = 3_000_000 * 1024
MEMINFO_TOTAL_BYTES = 4_000_000 * 1024
PRESSURE = """\
some avg10=12.50 avg60=3.00 avg300=1.00 total=1500000
full avg10=4.25 avg60=1.00 avg300=0.00 total=500000
"""
V1 = "sys/fs/cgroup/memory"
V2 = "sys/fs/cgroup"


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write `files` below `root`, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group_v2(
    directory: str, *, limit: int | str, used: int, file: int = 0, **others: str
) -> dict[str, str]:
    """Return the files of a group of version 2; `others` are more of them, `_` for the dot."""
    stat = f"anon 5\ninactive_file {file // 2}\nactive_file {file - file // 2}\n"
    return {
        f"{directory}/memory.max": f"{limit}\n",
        f"{directory}/memory.current": f"{used}\n",
        f"{directory}/memory.stat": stat,
        **{f"{directory}/{name.replace('_', '.', 1)}": text for name, text in others.items()},
    }


def group_v1(
    directory: str, *, limit: int, used: int, file: int = 0, refaults: int = 0
) -> dict[str, str]:
    """Return the files of a group of version 1."""
    stat = (
        # The numbers without `total_` are of the group alone, without those below it.
        f"inactive_file 1\nactive_file 1\ntotal_inactive_file {file // 2}\n"
        f"total_active_file {file - file // 2}\ntotal_workingset_refault_file {refaults}\n"
    )
    return {
        f"{directory}/memory.limit_in_bytes": f"{limit}\n",
        f"{directory}/memory.usage_in_bytes": f"{used}\n",
        f"{directory}/memory.stat": stat,
        f"{directory}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    }
