"""The section `daemon`: how it logs, and how long it takes to stop."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Daemon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Life of the daemon."""

    # systemd's own TimeoutStopSec is 90 s; ours ends well before it.
    drain_s: Annotated[
        Seconds, Meta(description="how long running answers may finish on SIGTERM, s")
    ] = 10.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="one line of key=value, or of JSON")
    ] = "text"
