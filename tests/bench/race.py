"""Our engine beside llama.cpp, onnxruntime-genai and vLLM, A B A B on one machine.

    python -m tests.bench.race [--track try|quick|full|long] [--only prefill,decode,…] [--rounds 3]
        [--prompts 128,512] [--depths 128] [--streams 1,4] [--estimate]

It prints medians, spreads, ratios, how much of each contestant's memory lay in huge pages, and
what became of each target, and writes `race.json` (every single figure), `race.png` and the logs of
the runners into `--out`. Nothing else should be running: times on a busy machine mean nothing, and
the load before each turn is written down.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.bench import machine, packages
from tests.bench.contestant import Contestant, Heat, Turn, turns
from tests.bench.estimate import minutes
from tests.bench.field import Field, peers_of
from tests.bench.huge_pages import pages_notes
from tests.bench.picture import draw
from tests.bench.results import Run, series
from tests.bench.stable import RunnerFailed, Stable
from tests.bench.table import figures_table, targets_table
from tests.bench.targets import TARGETS, judge
from tests.bench.track import COURSES, SECTIONS, Course, heats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# The rest is left to the page cache, where our weights are.
_ROOM_SHARE = 0.7
# Fields of a course that options may replace.
_LENGTHS = ("prompts", "depths", "streams")


@dataclass(kw_only=True)
class Race:
    """What was run, and how."""

    out: Path
    rounds: int
    absent: list[str] = field(default_factory=list)
    """Sentences about who is missing."""
    runs: list[Run] = field(default_factory=list)
    facts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """What runners told of themselves, by section and name."""

    def run(self, course: Iterable[Heat], say: Callable[[str], None]) -> None:
        """Run every heat; what was measured so far is on disk after each."""
        room_bytes = int(psutil.virtual_memory().available * _ROOM_SHARE)
        failed: set[Contestant] = set()
        with Stable(room_bytes=room_bytes, logs=self.out / "logs") as stable:
            for heat in course:
                for turn in turns(heat, self.rounds):
                    if turn.contestant not in failed:
                        run = self._turn(stable, heat.section, turn)
                        self.runs.append(run)
                        say(_line(run))
                        if run.error:
                            failed.add(turn.contestant)
                self.write()

    def write(self) -> None:
        """Write `race.json` and `race.png`."""
        figures = series(self.runs)
        judged = [judge(target, figures) for target in TARGETS]
        told: dict[str, Any] = {
            "machine": machine.facts(),
            "rounds": self.rounds,
            "absent": self.absent,
            "contestants": self.facts,
            "runs": [dataclasses.asdict(run) for run in self.runs],
            "targets": [dataclasses.asdict(each) for each in judged],
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "race.json").write_text(json.dumps(told, indent=1) + "\n")
        draw(self.out / "race.png", figures, judged, title=str(told["machine"]["processor"]))

    def tables(self) -> str:
        """Return what people read."""
        figures = series(self.runs)
        judged = [judge(target, figures) for target in TARGETS]
        pages = "\n".join(pages_notes(self.runs))
        return "\n\n".join([figures_table(figures), pages, targets_table(judged), *self.absent])

    def _turn(self, stable: Stable, section: str, turn: Turn) -> Run:
        contestant, lap = turn.contestant, turn.lap
        if lap.is_fresh:
            stable.refresh(contestant)
        load_1m, began_s, others_s = os.getloadavg()[0], time.monotonic(), 0.0
        figures, pages, error = {}, None, None
        try:
            told = stable.loaded(contestant).facts
            self.facts.setdefault(section, {})[contestant.name] = told
            others_s = stable.others_cpu_s(contestant)
            began_s = time.monotonic()
            figures = stable.run(contestant, lap.task)
            others_s = stable.others_cpu_s(contestant) - others_s
            pages = stable.pages(contestant)
        except RunnerFailed as exc:
            error = str(exc)
        return Run(
            section=section,
            lap=lap.name,
            contestant=contestant.name,
            round=turn.round,
            load_1m=round(load_1m, 2),
            seconds=round(time.monotonic() - began_s, 3),
            others_cpu_s=round(others_s, 3),
            figures=figures,
            pages=pages,
            error=error,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the race that the arguments ask for."""
    args = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, which ends runners too
    peers = peers_of(os.environ)
    missing = packages.missing(os.environ, peers.models)
    if not args.estimate:
        packages.make(os.environ, peers.models)
    entrants = Field(
        peers,
        package=packages.large(os.environ),
        small_home=packages.small_home(os.environ),
        threads=args.threads,
        promised=missing if args.estimate else (),
    )
    course = list(heats(course_of(args), entrants, args.only))
    print(f"about {minutes(course, args.rounds):.0f} minutes", file=sys.stderr)  # noqa: T201
    if args.estimate:
        for path in missing:
            print(f"and before that, once: making {path}", file=sys.stderr)  # noqa: T201
        return 0
    race = Race(out=args.out, rounds=args.rounds, absent=entrants.absent)
    race.run(course, lambda line: print(line, file=sys.stderr))  # noqa: T201  # how far it is
    print(race.tables())  # noqa: T201  # it is what was asked for
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.race",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--track", choices=COURSES, default="quick")
    parser.add_argument("--only", type=_sections, default=(), help=f"of {', '.join(SECTIONS)}")
    for name in _LENGTHS:
        parser.add_argument(
            f"--{name}", type=_numbers, metavar="N,…", help="instead of the track's"
        )
    parser.add_argument("--estimate", action="store_true", help="only say how long it would take")
    parser.add_argument("--rounds", type=_at_least_one, default=3)
    parser.add_argument("--out", type=Path, default=Path("race"), help="new or overwritten (race)")
    threads = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=_at_least_one, default=threads, help="for each runner")
    return parser.parse_args(arguments)


def course_of(args: argparse.Namespace) -> Course:
    """Return the track that is asked for, with the asked lengths instead of its own."""
    asked = {name: found for name in _LENGTHS if (found := getattr(args, name))}
    return dataclasses.replace(COURSES[args.track], **asked)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(_at_least_one, text.split(",")))


def _sections(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    for section in chosen:
        if section not in SECTIONS:
            msg = f"{section} is none of {', '.join(SECTIONS)}"
            raise argparse.ArgumentTypeError(msg)
    return chosen


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        msg = f"{number} is less than 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _line(run: Run) -> str:
    told = run.error or ", ".join(f"{name} {value:.4g}" for name, value in run.figures.items())
    return f"{run.round} {run.lap}, {run.contestant}: {told} (load {run.load_1m})"


if __name__ == "__main__":
    sys.exit(main())
