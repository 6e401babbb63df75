"""Prints the results of a race. Text of plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.results import ratio
from tests.bench.targets import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.bench.results import Key, Series
    from tests.bench.targets import Judged

_UNITS = {"tok_s": "tok/s", "gb_s": "GB/s", "mb": "MB", "s": "s"}


def figures_table(figures: Mapping[Key, Series]) -> str:
    """Return a paragraph for each lap: median, lowest, highest, and the first one's ratio to it."""
    laps = list(dict.fromkeys(key.lap for key in figures))
    return "\n".join(line for lap in laps for line in _lap_lines(lap, figures))


def targets_table(judged: Sequence[Judged]) -> str:
    """Return a line for each target: what was measured, what is asked, and whether it is met."""
    width = max(len(each.target.what) for each in judged)
    return "\n".join(f"{each.target.what:{width}}  {_judgement(each)}" for each in judged)


def named(figure: str) -> str:
    """Return a figure's name for people: of `read_rss_anon_mb`, "read rss anon, MB"."""
    for suffix, unit in _UNITS.items():
        if figure == suffix:
            return unit
        if figure.endswith(f"_{suffix}"):
            return f"{figure.removesuffix(f'_{suffix}').replace('_', ' ')}, {unit}"
    return figure.replace("_", " ")


def _lap_lines(lap: str, figures: Mapping[Key, Series]) -> Iterator[str]:
    yield lap
    rows = [(key, series) for key, series in figures.items() if key.lap == lap]
    for figure in dict.fromkeys(key.figure for key, _ in rows):
        same = [(key.contestant, series) for key, series in rows if key.figure == figure]
        yield from _figure_lines(figure, same)


def _figure_lines(figure: str, rows: Iterable[tuple[str, Series]]) -> Iterator[str]:
    first: Series | None = None
    for contestant, series in rows:
        spread = f"({series.lowest:.4g} to {series.highest:.4g})"
        line = f"  {contestant:28} {named(figure):22} {series.median:9.4g}  {spread:24}"
        if first is not None:
            line += f"x{ratio(first, series).of_medians:.2f}"
        yield line.rstrip()
        first = first or series


def _judgement(judged: Judged) -> str:
    target = judged.target
    asked = f"{target.sense} {target.bound:g}"
    if judged.measured is None:
        return f"{'':30}{asked:14} {Verdict.NOT_RUN}"
    value, lowest, highest = judged.measured
    spread = f"({lowest:.3g} to {highest:.3g})"
    close = ", but within the spread" if judged.is_close else ""
    return f"{value:8.3g} {spread:21}{asked:14} {judged.verdict}{close}"
