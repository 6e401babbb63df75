"""Seconds go to the stage that ends them, and are told once."""

from __future__ import annotations

from edge_agent.engine.laps import Laps, Stage


def test_each_stage_has_what_passed_before_its_laps() -> None:
    now_s = iter([0.0, 10.0, 11.0, 13.0, 14.0, 50.0, 57.0])
    laps = Laps(clock=lambda: next(now_s))
    laps.begin()
    laps.lap(Stage.PLAN)
    laps.lap(Stage.RUN)
    laps.lap(Stage.SAMPLE)
    laps.begin()
    laps.lap(Stage.PLAN)

    taken = laps.take()

    assert taken == {
        **dict.fromkeys(Stage, 0.0),
        Stage.PLAN: 8.0,
        Stage.RUN: 2.0,
        Stage.SAMPLE: 1.0,
    }
    assert set(laps.take().values()) == {0.0}
