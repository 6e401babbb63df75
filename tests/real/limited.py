"""A memory control group for a test, which is skipped where none can be made."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests import memory_group as groups
from tests.memory_group import MemoryGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MemoryGroup", "memory_group"]


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group that may have `limit_bytes`; it is removed at the end."""
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(groups.memory_group(limit_bytes))
        except OSError as exc:
            pytest.skip(f"no memory group of version 1 can be made here: {exc}")
        yield group
