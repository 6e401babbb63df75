"""Where the time of a request went: pauses are waiting, whenever they were."""

import pytest

from edge_agent.engine.clock import Clock
from edge_agent.messages import Timings


def test_the_stages_of_an_answer_add_up() -> None:
    clock = Clock(submitted_s=100.0)
    clock.has_slot(102.0)
    clock.has_token(105.0)
    clock.has_token(106.0)

    assert clock.timings(109.0) == Timings(queue_s=2.0, prefill_s=3.0, decode_s=4.0)


def test_a_pause_is_waiting_in_whichever_stage_it_was() -> None:
    clock = Clock(submitted_s=0.0)
    clock.has_slot(1.0)
    clock.waits(2.0)
    clock.has_slot(12.0)
    clock.has_token(14.0)
    assert clock.timings(20.0) == Timings(queue_s=11.0, prefill_s=3.0, decode_s=6.0)

    clock.waits(20.0)
    assert clock.waited_s(50.0) == 41.0
    clock.has_slot(120.0)
    assert clock.timings(121.0) == Timings(queue_s=111.0, prefill_s=3.0, decode_s=7.0)


def test_an_answer_without_a_token_has_only_been_read() -> None:
    clock = Clock(submitted_s=0.0)
    assert clock.timings(3.0) == Timings(queue_s=3.0, prefill_s=0.0, decode_s=0.0)
    clock.has_slot(3.0)
    assert clock.timings(5.0) == Timings(queue_s=3.0, prefill_s=2.0, decode_s=0.0)


@pytest.mark.parametrize(("now_s", "is_over"), [(9.9, False), (10.0, True)])
def test_a_deadline_is_over_when_it_is_there(now_s: float, is_over: bool) -> None:
    assert Clock(submitted_s=0.0, due_s=10.0).is_over(now_s) is is_over
    assert not Clock(submitted_s=0.0).is_over(1e12)
