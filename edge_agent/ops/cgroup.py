"""Reads the memory control groups we are in: limits, use, and what of it the kernel can drop.

Version 2, version 1, both at once (hybrid) and neither. Every path hangs below `root`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from edge_agent.ops.procfs import number, read_number, read_numbers, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

# Limits this high are the kernel's way to say that there is none (version 1).
_NO_LIMIT_BYTES = 1 << 60


class Group(Struct, frozen=True, kw_only=True):
    """A memory control group that we or a group of ours are in, and its subtree's numbers."""

    directory: Path
    limit_bytes: int | None
    """What its members may have together; None if nothing is said here."""
    used_bytes: int
    """Anonymous memory, page cache and kernel memory of all members."""
    file_bytes: int
    """Page cache on the lists of pages that can be reclaimed; tmpfs is not among it."""
    slab_bytes: int
    """Caches of the kernel that can be reclaimed (0 in version 1, which does not tell)."""
    refaults: int | None
    """File pages read again soon after they were dropped, ever."""
    high_events: int | None
    """How often `memory.high` made members wait, ever; None in version 1, which has none."""
    oom_kills: int | None
    """Members killed for want of memory, ever."""

    @property
    def free_bytes(self) -> int | None:
        """What members can still take before the kernel must kill one; None without a limit.

        Page cache makes room when it is wanted, the recently used no less than the rest: a model
        whose weights are mapped from a file has gigabytes of it, and counted as used they would
        make a group look full that is a third in use. What it costs to lose them is told apart
        (`guard.memory.Memory.swift_bytes`), and so is the act (`refaults`).
        """
        if self.limit_bytes is None:
            return None
        return max(
            0, self.limit_bytes - max(0, self.used_bytes - self.file_bytes - self.slab_bytes)
        )


def groups(root: Path) -> tuple[Group, ...]:
    """Return our own memory group and all above it that can be seen, our own first.

    Empty without control groups for memory.
    """
    return tuple(_groups(root))


def tightest(among: tuple[Group, ...]) -> Group | None:
    """Return the group that lets us take the least; None if none has a limit."""
    limited = [group for group in among if group.free_bytes is not None]
    return min(limited, key=lambda group: group.free_bytes or 0, default=None)


def _groups(root: Path) -> Iterator[Group]:
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            for directory in _upwards(root / "sys/fs/cgroup/memory", path):
                yield from _version_1(directory)
        elif controllers == "":
            # On a hybrid machine version 2 stands beside the others, usually without memory.
            for top in (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"):
                for directory in _upwards(top, path):
                    yield from _version_2(directory)


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """Yield the directory of the group called `path` and those above it, up to `top`.

    Inside a container the name may be the host's, even one that begins with `..`: what is not
    there is not ours to see.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in {"/", ".."}]
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth])


def _version_1(directory: Path) -> Iterator[Group]:
    used = read_number(directory / "memory.usage_in_bytes")
    if used is None:
        return
    limit = read_number(directory / "memory.limit_in_bytes")
    stat = read_numbers(directory / "memory.stat")
    yield Group(
        directory=directory,
        limit_bytes=limit if limit is not None and limit < _NO_LIMIT_BYTES else None,
        used_bytes=used,
        file_bytes=stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0),
        slab_bytes=0,
        refaults=stat.get("total_workingset_refault_file"),
        high_events=None,
        oom_kills=read_numbers(directory / "memory.oom_control").get("oom_kill"),
    )


def _version_2(directory: Path) -> Iterator[Group]:
    used = read_number(directory / "memory.current")
    if used is None:  # the root of all groups, or no controller for memory here
        return
    # Above `high` members are made to wait for reclaim: for us that is where memory ends.
    said = (read_text(directory / f"memory.{name}") or "" for name in ("max", "high"))
    limits = [limit for text in said if (limit := number(text.strip())) is not None]
    stat = read_numbers(directory / "memory.stat")
    events = read_numbers(directory / "memory.events")
    yield Group(
        directory=directory,
        limit_bytes=min(limits, default=None),
        used_bytes=used,
        file_bytes=stat.get("inactive_file", 0) + stat.get("active_file", 0),
        slab_bytes=stat.get("slab_reclaimable", 0),
        refaults=stat.get("workingset_refault_file"),
        high_events=events.get("high"),
        oom_kills=events.get("oom_kill"),
    )
