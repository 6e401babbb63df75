"""The way of events is a way: all of them arrive."""

from __future__ import annotations

from edge_agent.cli.hop import Hop
from edge_agent.messages import Delta, Event


def test_every_event_of_every_step_arrives() -> None:
    steps: list[list[tuple[str, Event]]] = [[], [("a", Delta("x")), ("b", Delta("y" * 1000))]] * 50

    with Hop() as hop:
        took_s = hop.carry(steps)

    assert took_s > 0
