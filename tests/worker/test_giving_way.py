"""Whose answer is given up when memory is short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages import Message, Priority, Request, Role
from edge_agent.worker.giving_way import giving_way

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


def running(*priorities: Priority) -> list[Request]:
    messages = (Message(role=Role.USER, content="why"),)
    return [Request(id="r", messages=messages, priority=priority) for priority in priorities]


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ((), []),
        ((NORMAL, NORMAL, NORMAL), [2, 1, 0]),
        ((LOW, HIGH, LOW, NORMAL), [2, 0, 3, 1]),
        ((HIGH,), [0]),
    ],
)
def test_the_newest_of_the_lowest_priority_goes_first(
    priorities: tuple[Priority, ...], order: list[int]
) -> None:
    assert giving_way(running(*priorities), most=len(order)) == order
    assert giving_way(running(*priorities), most=1) == order[:1]


@given(st.lists(st.sampled_from(Priority)), st.integers(-3, 20))
def test_nobody_is_named_twice_and_never_more_than_asked(
    priorities: list[Priority], most: int
) -> None:
    places = giving_way(running(*priorities), most=most)

    assert len(places) == len(set(places)) == min(len(priorities), max(0, most))
