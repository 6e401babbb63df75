"""What people read."""

from __future__ import annotations

from tests.bench.results import Key, Series
from tests.bench.table import figures_table, named, targets_table
from tests.bench.targets import Target, judge

OURS, PEER = (Key("decode at 128", name, "tok_s") for name in ("ours", "peer"))
FIGURES = {OURS: Series({1: 12.0, 2: 12.6, 3: 13.0}), PEER: Series({1: 10.0, 2: 10.5, 3: 11.0})}


def test_a_lap_shows_medians_spreads_and_ratios() -> None:
    title, ours, peer = figures_table(FIGURES).splitlines()
    assert title == "decode at 128"
    assert ours.split() == ["ours", "tok/s", "12.6", "(12", "to", "13)"]
    assert peer.split() == ["peer", "tok/s", "10.5", "(10", "to", "11)", "x1.20"]


def test_a_target_shows_what_was_measured_and_what_was_asked() -> None:
    targets = [
        Target(what="decode over peer", of=OURS, over=(PEER,), bound=1.19),
        Target(what="decode over nobody", of=OURS, over=(Key("x", "y", "z"),), bound=2),
    ]
    met, absent = targets_table([judge(each, FIGURES) for each in targets]).splitlines()
    assert " ".join(met.split()) == (
        "decode over peer 1.2 (1.18 to 1.2) at least 1.19 met, but within the spread"
    )
    assert " ".join(absent.split()) == "decode over nobody at least 2 not run"


def test_units_are_told_as_people_write_them() -> None:
    assert [named(each) for each in ("tok_s", "cold_s", "read_rss_anon_mb", "perplexity")] == [
        "tok/s",
        "cold, s",
        "read rss anon, MB",
        "perplexity",
    ]
