"""What a request counts for beside others: its priority, raised by waiting. Pure.

The engine's slots, the queue on disk and the choice of who gives way follow the same ranks.
"""

from __future__ import annotations

from edge_agent.messages import Priority

RANK = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2}
OVERDUE = 3
"""The rank of who has waited longest: above all priorities, and by age alone."""


def rank(priority: Priority, *, waited_s: float, ageing_s: float) -> int:
    """Return what a request counts for: who waits for `ageing_s` counts as one priority higher."""
    return min(OVERDUE, RANK[priority] + int(waited_s / ageing_s))
