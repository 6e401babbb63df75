"""The section `memory`: what we may take, and how long an idle model stays."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_agent.config.units import size_bytes


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the daemon and its model may take, and for how long."""

    budget: Annotated[
        str | Annotated[int, Meta(ge=1 << 20)],
        Meta(
            description="most memory of our processes, file pages apart: auto (what is there), "
            "bytes, or text like 3GB"
        ),
    ] = "auto"
    # What other programs of a gateway grow by at their busiest.
    reserve: Annotated[
        str | Annotated[int, Meta(ge=0)],
        Meta(
            description="memory left to other programs whatever comes: bytes, or text like 256MiB"
        ),
    ] = "256MiB"
    # A dedicated box has nothing better to do with its memory than to answer at once.
    keep_alive: Annotated[
        Literal["forever"] | Annotated[float, Meta(ge=0, le=7 * 86400)],
        Meta(description="how long an idle model stays loaded: forever, or seconds"),
    ] = "forever"

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: a size cannot be read; it names the key.
        """
        _ = self.budget_bytes, self.reserve_bytes

    @property
    def budget_bytes(self) -> int | None:
        """The budget in bytes; None: what is there."""
        return None if self.budget == "auto" else size_bytes("memory.budget", self.budget)

    @property
    def reserve_bytes(self) -> int:
        """The reserve in bytes."""
        return size_bytes("memory.reserve", self.reserve)
