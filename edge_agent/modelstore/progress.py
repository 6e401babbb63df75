"""Tells how a long transfer goes: a bar on a terminal, now and then a line elsewhere, or JSON.

The arithmetic and the wording are pure (time is an argument); `Progress` is the part that writes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

# Speed is that of the last seconds: long enough to be steady, short enough to show a stall.
_WINDOW_S = 5.0
# What happens within less says nothing: one buffer that fills at once is no speed.
_LEAST_SPAN_S = 0.05
_BAR_CELLS = 24
_MB = 1_000_000


class Stage(StrEnum):
    """What is being done for a package."""

    DOWNLOAD = "download"
    IMPORT = "import"
    VERIFY = "verify"
    EXPORT = "export"
    UNPACK = "unpack"
    PREPARE = "prepare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a transfer. Speed and time left are None until they can be told."""

    stage: Stage
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None
    eta_s: float | None

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What to know before a model is fetched. Programs read it as the first line."""

    model: str
    title: str
    licence: str
    source: str
    download_bytes: int
    package_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    """At least `least_s` between two looks, at most `most_s`; between them at each `fraction`."""

    least_s: float
    most_s: float
    fraction: float


_BAR = _Pace(least_s=0.1, most_s=0.1, fraction=0.0)
_JSON = _Pace(least_s=0.5, most_s=0.5, fraction=0.0)
# A log is read by people: a line every few seconds, sooner if a tenth more is done.
_LINE = _Pace(least_s=1.0, most_s=5.0, fraction=0.1)


class Meter:
    """Works out speed and time left of one stage."""

    def __init__(self, stage: Stage, total_bytes: int) -> None:
        self._stage = stage
        self._total_bytes = total_bytes
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, done_bytes: int, now_s: float) -> Sample:
        """Return how it stands when `done_bytes` are done at time `now_s`."""
        self._seen.append((now_s, done_bytes))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _WINDOW_S:  # noqa: PLR2004  # a span
            self._seen.popleft()
        first_s, first_bytes = self._seen[0]
        gained = done_bytes - first_bytes
        is_telling = now_s - first_s >= _LEAST_SPAN_S and gained >= 0
        speed = gained / (now_s - first_s) if is_telling else None
        return Sample(
            stage=self._stage,
            done_bytes=done_bytes,
            total_bytes=self._total_bytes,
            bytes_per_s=speed,
            eta_s=max(0, self._total_bytes - done_bytes) / speed if speed else None,
        )


def sentence(sample: Sample) -> str:
    """Return `sample` in words, for a log."""
    done, total = sample.done_bytes / _MB, sample.total_bytes / _MB
    speed = "" if sample.bytes_per_s is None else f", {sample.bytes_per_s / _MB:.1f} MB/s"
    left = "" if sample.eta_s is None else f", {_clock(sample.eta_s)} left"
    return f"{sample.stage} {sample.fraction:.0%}, {done:.1f} of {total:.1f} MB{speed}{left}"


def terms_sentence(terms: Terms) -> str:
    """Return `terms` in words."""
    fetched, package = terms.download_bytes / _MB, terms.package_bytes / _MB
    return (
        f"{terms.model}: {terms.title}, licence {terms.licence}, from {terms.source};"
        f" about {fetched:.0f} MB to fetch for a package of {package:.0f} MB"
    )


def bar(sample: Sample, columns: int) -> str:
    """Return `sample` as a bar that fits into `columns` characters."""
    full = round(sample.fraction * _BAR_CELLS)
    cells = "#" * full + "." * (_BAR_CELLS - full)
    speed = "-" if sample.bytes_per_s is None else f"{sample.bytes_per_s / _MB:.1f}"
    left = "-:--" if sample.eta_s is None else _clock(sample.eta_s)
    done, total = sample.done_bytes / _MB, sample.total_bytes / _MB
    text = f"{sample.stage:<8} [{cells}] {sample.fraction:4.0%} {done:6.1f}/{total:.1f} MB"
    return f"{text} {speed:>6} MB/s {left} left"[: max(0, columns - 1)]


def json_line(sample: Sample) -> str:
    """Return `sample` as one JSON object; numbers that cannot be told are null."""
    facts = {
        "stage": sample.stage,
        "done_bytes": sample.done_bytes,
        "total_bytes": sample.total_bytes,
        "bytes_per_s": None if sample.bytes_per_s is None else round(sample.bytes_per_s),
        "eta_s": None if sample.eta_s is None else round(sample.eta_s, 1),
    }
    return json.dumps(facts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Writes progress for people to `people`, and for programs, one JSON line each, to `programs`.

    Raises:
        BrokenPipeError: whoever read it is gone.
    """

    def __init__(
        self,
        people: TextIO,
        programs: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._people = people
        self._programs = programs
        self._clock = clock
        self._is_mid_line = False

    def stage(self, stage: Stage, total_bytes: int) -> Callable[[int], None]:
        """Begin a stage of `total_bytes`; call the result with the bytes done so far."""
        self.end_line()
        meter = Meter(stage, total_bytes)
        writers = [_Writer(self._show_bar, _BAR) if self._people.isatty() else self._lines()]
        if self._programs is not None:
            writers.append(_Writer(self._show_json, _JSON))

        def show(done_bytes: int) -> None:
            now_s = self._clock()
            sample = meter.look(done_bytes, now_s)
            for writer in writers:
                writer.offer(sample, now_s)

        return show

    def show_terms(self, terms: Terms) -> None:
        """Tell what is about to be fetched, and under which licence."""
        self.say(terms_sentence(terms))
        if self._programs is not None:
            self._programs.write(f"{json.dumps(asdict(terms))}\n")
            self._programs.flush()

    def say(self, text: str) -> None:
        """Write a line for people."""
        self.end_line()
        self._people.write(f"{text}\n")
        self._people.flush()

    def end_line(self) -> None:
        """Leave the bar as it stands; what is written next begins a new line."""
        if self._is_mid_line:
            self._people.write("\n")
            self._people.flush()
        self._is_mid_line = False

    def _lines(self) -> _Writer:
        writer = _Writer(lambda sample: self.say(sentence(sample)), _LINE)
        writer.wait(self._clock())  # a stage that is over at once needs its last line only
        return writer

    def _show_bar(self, sample: Sample) -> None:
        columns = shutil.get_terminal_size().columns
        self._people.write(f"\r\x1b[K{bar(sample, columns)}")
        self._people.flush()
        self._is_mid_line = True

    def _show_json(self, sample: Sample) -> None:
        assert self._programs is not None  # noqa: S101  # only then there is such a writer
        self._programs.write(f"{json_line(sample)}\n")
        self._programs.flush()


class _Writer:
    """Passes on the samples that are due, and the last one of a stage, once."""

    def __init__(self, write: Callable[[Sample], None], pace: _Pace) -> None:
        self._write = write
        self._pace = pace
        self._next_s, self._latest_s, self._next_fraction = 0.0, 0.0, 0.0
        self._is_done = False

    def offer(self, sample: Sample, now_s: float) -> None:
        """Write `sample` if it is due."""
        is_last = sample.done_bytes >= sample.total_bytes
        grown = now_s >= self._next_s and sample.fraction >= self._next_fraction
        if self._is_done or not (is_last or grown or now_s >= self._latest_s):
            return
        self._is_done = is_last
        self.wait(now_s)
        self._next_fraction = sample.fraction + self._pace.fraction
        self._write(sample)

    def wait(self, now_s: float) -> None:
        """Count the pauses from `now_s` on."""
        self._next_s = now_s + self._pace.least_s
        self._latest_s = now_s + self._pace.most_s
