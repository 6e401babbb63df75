"""The section `journal`: how much the durable queue keeps, and for how long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Journal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The durable queue."""

    max_jobs: Annotated[int, Meta(ge=1, le=1_000_000, description="unfinished jobs kept")] = 1000
    max_bytes: Annotated[
        int, Meta(ge=1 << 20, description="bytes of payloads and results kept")
    ] = 256 << 20
    retention_s: Annotated[
        Seconds, Meta(description="how long results answer a repeated id, s")
    ] = 86400.0
    default_deadline_s: Annotated[
        Seconds, Meta(description="deadline of a request that names none, s")
    ] = 3600.0
    # Below this a full disk would stop SQLite in the middle of a result.
    min_free_bytes: Annotated[
        int, Meta(ge=0, description="free disk below which nothing is accepted")
    ] = 32 << 20
