"""Draws the results of a race."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.bench.table import named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from tests.bench.results import Key, Series
    from tests.bench.targets import Judged

_WIDTH_INCHES, _ROW_INCHES = 10.0, 0.28
_MET, _MISSED = "tab:green", "tab:red"


def draw(path: Path, figures: Mapping[Key, Series], judged: Sequence[Judged], title: str) -> None:
    """Write a PNG: bars of every speed with their spread, and how far each target was reached."""
    speeds = {key: series for key, series in figures.items() if key.figure == "tok_s"}
    measured = [each for each in judged if each.measured is not None]
    all_panels: tuple[tuple[int, Callable[[Axes], None]], ...] = (
        (len(speeds), lambda axes: _bars(axes, speeds)),
        (len(measured), lambda axes: _reached(axes, measured)),
    )
    panels = [(rows, fill) for rows, fill in all_panels if rows]
    height = sum(rows for rows, _ in panels) * _ROW_INCHES + 2
    picture = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    FigureCanvasAgg(picture)
    picture.suptitle(title)
    if panels:
        grid = picture.add_gridspec(len(panels), 1, height_ratios=[rows for rows, _ in panels])
        for place, (_, fill) in enumerate(panels):
            fill(picture.add_subplot(grid[place]))
    picture.savefig(path, dpi=100)


def _bars(axes: Axes, speeds: Mapping[Key, Series]) -> None:
    labels = [f"{key.lap} · {key.contestant}" for key in speeds]
    medians = [series.median for series in speeds.values()]
    below = [series.median - series.lowest for series in speeds.values()]
    over = [series.highest - series.median for series in speeds.values()]
    laps = list(dict.fromkeys(key.lap for key in speeds))
    colours = [f"C{laps.index(key.lap) % 10}" for key in speeds]
    places = range(len(labels))
    axes.barh(places, medians, xerr=[below, over], color=colours)
    axes.set_yticks(places, labels, fontsize="small")
    axes.invert_yaxis()
    # A small model is twenty times as fast as a large one.
    axes.set_xscale("log")
    axes.set_xlabel(f"{named('tok_s')}, median and spread")


def _reached(axes: Axes, judged: Sequence[Judged]) -> None:
    places = range(len(judged))
    reached = [_reached_share(each) for each in judged]
    axes.barh(places, reached, color=[_MET if share >= 1 else _MISSED for share in reached])
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks(places, [each.target.what for each in judged], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("reached of the target: 1 and more is met")


def _reached_share(judged: Judged) -> float:
    assert judged.measured is not None  # those are not drawn
    value, bound = judged.measured.of_medians, judged.target.bound
    return value / bound if judged.target.sense == "at least" else bound / value
