"""What was measured, and what follows from it. Arithmetic on plain values."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.huge_pages import Pages
    from tests.bench.runners.task import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One turn, as it went."""

    section: str
    lap: str
    contestant: str
    round: int
    load_1m: float
    """The machine's load average before it; what this race computes is in it too."""
    seconds: float
    others_cpu_s: float
    """What the other loaded contestants computed meanwhile: next to nothing, or it counts less."""
    figures: Figures = field(default_factory=dict)
    pages: Pages | None = None
    """How the memory lay of who computed them, right after; None: that is not known."""
    error: str | None = None


class Key(NamedTuple):
    """Which figure of whom in which lap."""

    lap: str
    contestant: str
    figure: str


class Series:
    """The values of one figure, by round."""

    def __init__(self, by_round: dict[int, float]) -> None:
        self.by_round = by_round

    @property
    def median(self) -> float:
        return statistics.median(self.by_round.values())

    @property
    def lowest(self) -> float:
        return min(self.by_round.values())

    @property
    def highest(self) -> float:
        return max(self.by_round.values())


class Ratio(NamedTuple):
    """One series over another."""

    of_medians: float
    lowest: float
    """Of the ratios of single rounds, in which the machine was much the same for both."""
    highest: float


def series(runs: Iterable[Run]) -> dict[Key, Series]:
    """Gather the figures of all runs, in the order in which they were first measured."""
    values: defaultdict[Key, dict[int, float]] = defaultdict(dict)
    for run in runs:
        for figure, value in run.figures.items():
            values[Key(run.lap, run.contestant, figure)][run.round] = value
    return {key: Series(by_round) for key, by_round in values.items()}


def ratio(of: Series, over: Series) -> Ratio:
    """Return the ratio of medians and the spread of the ratios round by round.

    Rounds that only one of both has do not count for the spread; without a common round the spread
    is that of the extremes.
    """
    rounds = of.by_round.keys() & over.by_round.keys()
    each = [of.by_round[number] / over.by_round[number] for number in rounds] or [
        of.lowest / over.highest,
        of.highest / over.lowest,
    ]
    return Ratio(of.median / over.median, min(each), max(each))
