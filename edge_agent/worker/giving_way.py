"""Decides whose answer is given up when memory is short. Plain values in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.precedence import RANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.messages import Request


def giving_way(running: Sequence[Request], *, most: int) -> list[int]:
    """Return the places in `running` (oldest first) of up to `most` requests to give up.

    The lowest priority goes first, and of those the newest: it loses the least work.
    """
    order = sorted(range(len(running)), key=lambda i: (RANK[running[i].priority], -i))
    return order[: max(0, most)]
