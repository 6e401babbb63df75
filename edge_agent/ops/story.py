"""What is known of a request that is over, as plain values: for metrics. Never its text."""

from __future__ import annotations

from msgspec import Struct

from edge_agent.messages import Done


class Story(Struct, frozen=True, kw_only=True):
    """One request from its arrival to its end."""

    served_by: str | None
    """"local" or a peer's name; None if nobody answered."""
    reason: str
    """Why it was served by that one, or by nobody; empty where the request itself was wrong."""
    outcome: str
    """A finish reason, the code of an error, or `left`: its reader went away."""
    prompt_tokens: int
    new_tokens: int
    first_s: float | None
    """Seconds from the arrival to the first piece of the answer; None if there was none."""
    total_s: float
    done: Done | None
