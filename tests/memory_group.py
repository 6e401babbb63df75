"""A memory control group of its own, where this machine lets us make one (version 1 only)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_V1 = Path("/sys/fs/cgroup/memory")
# A group whose last process was just killed is busy for a moment.
_EMPTY_WITHIN_S = 10.0
# Joins the group and becomes the program, so that all of it is inside from its first page.
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class MemoryGroup:
    """A group of version 1 in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def joined(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs `command` inside."""
        return ["/bin/sh", "-c", _JOIN, str(self.directory), *command]

    @property
    def oom_kills(self) -> int:
        """How many members the kernel killed for memory."""
        lines = (self.directory / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    @property
    def peak_bytes(self) -> int:
        """The most that members took at once, their page cache included."""
        return int((self.directory / "memory.max_usage_in_bytes").read_text())

    @property
    def left_bytes(self) -> int:
        """What members can still take, with all page cache dropped for it."""
        lines = (self.directory / "memory.stat").read_text().splitlines()
        stat = {name: int(value) for name, value in (line.split() for line in lines)}
        files = stat["total_active_file"] + stat["total_inactive_file"]
        limit, used = (
            int((self.directory / f"memory.{name}_in_bytes").read_text())
            for name in ("limit", "usage")
        )
        return limit - used + files


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group that may have `limit_bytes` and no swap; it is removed at the end.

    Its members must have ended by then.

    Raises:
        OSError: that is not permitted, or the machine has no such groups.
    """
    group = _V1 / f"edge-test-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        with contextlib.suppress(OSError):  # not where swap is not counted
            (group / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
        (group / "memory.swappiness").write_text("0")
        yield MemoryGroup(group)
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    until_s = time.monotonic() + _EMPTY_WITHIN_S
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            return
