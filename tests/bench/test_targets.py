"""Judging, by hand, and that every target can be reached by a race there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.field import Field, Peers
from tests.bench.results import Key, Series
from tests.bench.targets import TARGETS, Judged, Target, Verdict, judge
from tests.bench.test_field import all_peers
from tests.bench.track import COURSES, heats

if TYPE_CHECKING:
    from pathlib import Path

OURS, PEER, OTHER = (Key("decode", name, "tok_s") for name in ("ours", "peer", "other"))
FASTER = Target(what="decode over the best", of=OURS, over=(PEER, OTHER), bound=1.2)
SMALLER = Target(what="memory", of=OURS, sense="at most", bound=100)


def judged(target: Target, **rounds: list[float]) -> Judged:
    figures = {
        Key("decode", name, "tok_s"): Series(dict(enumerate(values)))
        for name, values in rounds.items()
    }
    return judge(target, figures)


def test_the_best_of_the_others_is_what_counts() -> None:
    found = judged(FASTER, ours=[13], peer=[10], other=[11])
    assert (found.verdict, found.over) == (Verdict.MISSED, "other")
    assert judged(FASTER, ours=[13], peer=[10]).verdict is Verdict.MET


@pytest.mark.parametrize("rounds", [{"ours": [13.0]}, {"peer": [10.0]}, {}])
def test_without_both_nothing_is_judged(rounds: dict[str, list[float]]) -> None:
    found = judged(FASTER, **rounds)
    assert found.verdict is Verdict.NOT_RUN
    assert not found.is_close


@pytest.mark.parametrize(("value", "verdict"), [(100, Verdict.MET), (101, Verdict.MISSED)])
def test_a_figure_by_itself_has_a_bound_too(value: float, verdict: Verdict) -> None:
    assert judged(SMALLER, ours=[value]).verdict is verdict


def test_rounds_that_disagree_with_the_median_make_it_close() -> None:
    assert judged(FASTER, ours=[11, 13, 14], peer=[10, 10, 10]).is_close
    assert not judged(FASTER, ours=[13, 13, 14], peer=[10, 10, 10]).is_close


def test_every_target_is_measured_by_the_long_track(tmp_path: Path) -> None:
    peers: Peers = all_peers(tmp_path)
    package = tmp_path / "ours"
    package.mkdir()
    field = Field(peers, package=package, small_home=tmp_path / "home", threads=2)
    run = {
        (lap.name, contestant.name)
        for heat in heats(COURSES["long"], field)
        for lap in heat.laps
        for contestant in lap.contestants
    }
    wanted = {(key.lap, key.contestant) for each in TARGETS for key in (each.of, *each.over)}
    assert wanted <= run
