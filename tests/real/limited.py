"""A memory control group of its own for a test, where this machine lets us make one."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_V1 = Path("/sys/fs/cgroup/memory")
# A group whose last process was just killed is busy for a moment.
_EMPTY_WITHIN_S = 10.0


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Make a group of version 1 that may have `limit_bytes`; it is removed at the end.

    Skips the test where that is not permitted, or the machine has no such groups.
    """
    group = _V1 / f"edge-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"no memory group of version 1 can be made here: {exc}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        with contextlib.suppress(OSError):  # not where swap is not counted
            (group / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
        yield group
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
