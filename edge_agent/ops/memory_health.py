"""The state of memory as plain values: what `/health`, the MQTT status and metrics tell."""

from __future__ import annotations

from msgspec import Struct


class MemoryHealth(Struct, frozen=True, kw_only=True):
    """How tight memory is, and the numbers from which a person can see why."""

    level: str
    """`calm`, `soft`, `hard` or `critical`."""
    reason: str
    """What brought the level, with the numbers of that moment."""
    level_s: float
    """How long the level has been what it is."""
    may_begin: bool
    """Whether new work may begin: at `calm`, and before that after some time of peace."""
    available_bytes: int | None
    """What can still be taken here, less the reserve; None if the system does not say."""
    swift_bytes: int | None
    """The same, without taking memory from mapped weights."""
    total_bytes: int | None
    bound: str
    """What sets the limit: `machine`, a control group's directory, `budget`, or `unknown`."""
    rss_anon_bytes: int
    """Memory of daemon and engine that only their doing gives back."""
    rss_file_bytes: int
    """File pages of daemon and engine in memory, mapped weights above all."""
