"""One look at memory, as plain values. How it is taken is `sample`'s business."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace


class Stall(Struct, frozen=True, kw_only=True):
    """How much tasks waited for memory: the kernel's pressure stall information (PSI)."""

    some_percent: float
    """Share of the last ten seconds in which at least one task waited."""
    full_percent: float
    """Share of the last ten seconds in which all tasks that had work waited."""
    some_s: float
    """Time in which at least one task waited, ever."""


class Memory(Struct, frozen=True, kw_only=True):
    """What there is, and what we have of it."""

    available_bytes: int
    """What can still be taken before something is killed for it.

    Page cache counts as available, that of mapped weights too: the kernel drops it before it kills.
    """
    swift_bytes: int
    """What can still be taken before mapped weights leave memory.

    Beyond this nothing is killed, and every token reads from the disk what was dropped for it. A
    request that fits into `available_bytes` and not into this can be answered, slowly.
    """
    total_bytes: int
    """What `available_bytes` is a part of: the machine's memory, or the limit that is nearest."""
    bound: str
    """What is nearest to its end: `machine`, the directory of a control group, or `budget`."""
    rss_anon_bytes: int = 0
    """Memory of our processes that nothing but their end or their own doing gives back."""
    rss_file_bytes: int = 0
    """File pages our processes have mapped and in memory: prepared weights, mostly."""
    file_bytes: int | None = None
    """All page cache of our control group, else of the machine."""
    refault_bytes: int | None = None
    """Pages of files read again soon after they were dropped, ever."""
    stall: Stall | None = None
    """None where the kernel does not tell."""
    high_events: int | None = None
    """How often the soft limit of our control group (`memory.high`) was met, ever."""


def within(memory: Memory, *, budget_bytes: int | None, reserve_bytes: int) -> Memory:
    """Return `memory` as it is for us: less what others shall keep, and within our budget.

    `budget_bytes` bounds the anonymous memory of our processes, None leaves it to the machine;
    `reserve_bytes` are left to others whatever comes.
    """
    left = max(0, memory.available_bytes - reserve_bytes)
    swift = max(0, memory.swift_bytes - reserve_bytes)
    if budget_bytes is None or budget_bytes - memory.rss_anon_bytes >= left:
        return replace(memory, available_bytes=left, swift_bytes=swift)
    left = max(0, budget_bytes - memory.rss_anon_bytes)
    return replace(
        memory,
        available_bytes=left,
        swift_bytes=min(left, swift),
        total_bytes=min(budget_bytes, memory.total_bytes),
        bound="budget",
    )
