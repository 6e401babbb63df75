"""What a request counts for: its priority, raised by waiting."""

import pytest

from edge_agent.messages import Priority
from edge_agent.precedence import OVERDUE, rank


@pytest.mark.parametrize(
    ("priority", "ranks"),
    [
        (Priority.LOW, [0, 0, 1, 2, 3, 3]),
        (Priority.NORMAL, [1, 1, 2, 3, 3, 3]),
        (Priority.HIGH, [2, 2, 3, 3, 3, 3]),
    ],
)
def test_waiting_raises_a_priority_step_by_step(priority: Priority, ranks: list[int]) -> None:
    waits_s = (0.0, 59.0, 60.0, 120.0, 180.0, 1e9)

    assert [rank(priority, waited_s=s, ageing_s=60) for s in waits_s] == ranks
    assert max(ranks) == OVERDUE
