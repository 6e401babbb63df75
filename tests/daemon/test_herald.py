"""Each change of the engine's standing is told once, and readiness only the first time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from edge_agent.daemon.herald import Herald
from edge_agent.ops.health import State

if TYPE_CHECKING:
    from collections.abc import Sequence


class Waiting:
    """Counts how often it was told that the daemon can be used."""

    def __init__(self) -> None:
        self.times_ready = 0

    def listening(self, addresses: Sequence[tuple[str, int]]) -> None:
        raise AssertionError(addresses)

    def ready(self) -> None:
        self.times_ready += 1


@pytest.mark.parametrize("state", [State.READY, State.UNLOADED, State.RELAY])
def test_each_way_to_answer_is_ready(state: State) -> None:
    waiting = Waiting()
    Herald(waiting).change(state, "")
    assert waiting.times_ready == 1


def test_a_model_that_comes_and_goes_is_ready_once() -> None:
    waiting = Waiting()
    herald = Herald(waiting)
    for state in (State.LOADING, State.READY, State.UNLOADED, State.LOADING, State.READY):
        herald.change(state, "")
    assert waiting.times_ready == 1


def test_progress_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    herald = Herald(Waiting())
    for part in ("1 %", "2 %"):
        herald.change(State.LOADING, part)
    assert [record.getMessage() for record in caplog.records] == [
        "state changed state=loading detail=1 %"
    ]
