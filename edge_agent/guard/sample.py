"""Takes one look at memory: a handful of files of /proc and the control groups, no decisions."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.guard.memory import Memory, Stall
from edge_agent.ops.cgroup import Group, groups, tightest
from edge_agent.ops.procfs import kib_as_bytes, read_numbers, read_pairs, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_MICROSECONDS = 1_000_000


def sample(root: Path = Path("/"), *, pids: Iterable[int] = ()) -> Memory | None:
    """Look at the memory of the machine below `root`, and of our processes `pids`.

    `available_bytes` is the smallest of MemAvailable and what each control group from ours upwards
    still allows; swap never counts. Processes that are gone count nothing.

    Returns:
        None if neither the machine nor a control group says how much there is.
    """
    ours = groups(root)
    bound = _bound(root, ours)
    if bound is None:
        return None
    available_bytes, total_bytes, name = bound
    processes = [read_pairs(root / f"proc/{pid}/status") for pid in pids]
    rss_file_bytes = sum(kib_as_bytes(process, "RssFile") or 0 for process in processes)
    file_bytes, refaults = _page_cache(root, ours)
    return Memory(
        available_bytes=available_bytes,
        swift_bytes=max(0, available_bytes - rss_file_bytes),
        total_bytes=total_bytes,
        bound=name,
        rss_anon_bytes=sum(kib_as_bytes(process, "RssAnon") or 0 for process in processes),
        rss_file_bytes=rss_file_bytes,
        file_bytes=file_bytes,
        refault_bytes=None if refaults is None else refaults * mmap.PAGESIZE,
        stall=_stall(root, ours),
        high_events=ours[0].high_events if ours else None,
    )


def count_oom_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes of our own group, else of the machine, were killed for memory.

    It only grows; None if nobody counts.
    """
    ours = groups(root)
    if ours and ours[0].oom_kills is not None:
        return ours[0].oom_kills
    return read_numbers(root / "proc/vmstat").get("oom_kill")


def _bound(root: Path, ours: tuple[Group, ...]) -> tuple[int, int, str] | None:
    """Return what is available, of how much, and where that is said."""
    meminfo = read_pairs(root / "proc/meminfo")
    available = kib_as_bytes(meminfo, "MemAvailable")
    total = kib_as_bytes(meminfo, "MemTotal")
    bounds = [] if available is None or total is None else [(available, total, "machine")]
    group = tightest(ours)
    if group is not None:
        bounds.append((group.free_bytes or 0, group.limit_bytes or 0, str(group.directory)))
    return min(bounds, default=None)


def _page_cache(root: Path, ours: tuple[Group, ...]) -> tuple[int | None, int | None]:
    """Return the bytes of page cache and the refaults of our own group, else of the machine."""
    if ours and ours[0].refaults is not None:
        return ours[0].file_bytes, ours[0].refaults
    meminfo = read_pairs(root / "proc/meminfo")
    parts = [kib_as_bytes(meminfo, f"{kind}(file)") for kind in ("Active", "Inactive")]
    refaults = read_numbers(root / "proc/vmstat").get("workingset_refault_file")
    known = [part for part in parts if part is not None]
    return (sum(known) if known else None), refaults


def _stall(root: Path, ours: tuple[Group, ...]) -> Stall | None:
    """Return the stalls of our own group (version 2), else of the machine."""
    places = [group.directory / "memory.pressure" for group in ours[:1]]
    for path in (*places, root / "proc/pressure/memory"):
        stall = _parsed(read_text(path) or "")
        if stall is not None:
            return stall
    return None


def _parsed(text: str) -> Stall | None:
    """Return what the two lines `some avg10=0.00 … total=0` and `full …` say, if they do."""
    lines = {
        kind: dict(pair.partition("=")[::2] for pair in rest.split())
        for kind, _, rest in (line.partition(" ") for line in text.splitlines())
    }
    try:
        some, full = lines["some"], lines["full"]
        return Stall(
            some_percent=float(some["avg10"]),
            full_percent=float(full["avg10"]),
            some_s=int(some["total"]) / _MICROSECONDS,
        )
    except (KeyError, ValueError):
        return None
