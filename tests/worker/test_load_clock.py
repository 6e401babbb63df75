"""How long a load takes, told from the last one."""

from __future__ import annotations

from edge_agent.worker.load_clock import LoadClock


def test_nothing_is_known_before_the_first_load_is_complete() -> None:
    clock = LoadClock()
    assert clock.left_s(0.0) is None
    clock.begin(10.0)
    assert clock.left_s(11.0) is None
    clock.ready(14.0)
    assert clock.left_s(20.0) == 4.0


def test_what_has_passed_of_a_load_is_taken_off() -> None:
    clock = LoadClock()
    clock.begin(0.0)
    clock.ready(4.0)
    clock.begin(100.0)

    assert clock.left_s(101.0) == 3.0
    assert clock.left_s(110.0) == 0.0


def test_a_load_that_did_not_end_well_teaches_nothing() -> None:
    clock = LoadClock()
    clock.begin(0.0)
    clock.ready(4.0)
    clock.begin(100.0)
    clock.stop()
    clock.ready(200.0)

    assert clock.left_s(200.0) == 4.0
