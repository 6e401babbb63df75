"""Where the time of a step goes: the decoder under onnxruntime's own profiler.

    python -m tests.bench.operators PACKAGE [--rows 1,4,8] [--prompts 128] [--depth 128]
        [--steps 20] [--threads 2]

Prints the milliseconds of a step by operator, of products by weight, for steps of so many rows that
decode and of prompts so long. Each node costs a few microseconds more under the profiler: shares of
a large model are right to a percent, those of a small one less so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from edge_agent.engine import decoder as engine_decoder
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.modelstore.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnxruntime as ort

    from edge_agent.modelstore.manifest import Activations

# The first steps pay for buffers that all others reuse.
_WARM_UP_STEPS = 2
_PRODUCTS = frozenset({"MatMulNBits", "Gemm"})
# Nodes of what it runs tell their own time.
_CHOICE = "If"
_KERNEL = "_kernel_time"
# In every vocabulary there is, and no control token.
_TOKEN = 1000


class Measure(NamedTuple):
    """Equal steps: `rows` slots with `tokens` new tokens each, behind `past` that they hold."""

    rows: int
    tokens: int
    past: int

    def __str__(self) -> str:
        """Return it as the heading of a table."""
        if self.tokens > 1:
            return f"a prompt of {self.tokens}"
        return f"{self.rows} rows at {self.past}"


class Spent(NamedTuple):
    """What an operator took of a step."""

    operator: str
    ms: float
    nodes: float


def by_operator(events: Iterable[Mapping[str, Any]], runs: range) -> list[Spent]:
    """Return what each operator took in the mean of `runs`, the longest first; the whole is `run`.

    `events` are those of onnxruntime's trace, times in microseconds; runs are counted from the
    first of the session.
    """
    told = list(events)
    whole = sorted(
        (each for each in told if each["name"] == "model_run"), key=lambda run: run["ts"]
    )
    chosen = whole[runs.start : runs.stop]
    if len(chosen) < len(runs):
        msg = f"the profile has {len(whole)} runs, not {runs.stop}"
        raise ValueError(msg)
    began_us, ended_us = chosen[0]["ts"], chosen[-1]["ts"] + chosen[-1]["dur"]
    spent_us: defaultdict[str, int] = defaultdict(int)
    nodes: defaultdict[str, int] = defaultdict(int)
    for event in told:
        if began_us <= event["ts"] < ended_us and (name := _operator(event)):
            spent_us[name] += event["dur"]
            nodes[name] += 1
    spent_us["run"], nodes["run"] = sum(run["dur"] for run in chosen), len(chosen)
    spent = [
        Spent(name, us / len(runs) / 1e3, nodes[name] / len(runs)) for name, us in spent_us.items()
    ]
    return sorted(spent, key=lambda each: -each.ms)


def _operator(event: Mapping[str, Any]) -> str | None:
    """Return the operator whose kernel `event` times, of products with the weight; else None."""
    name = str(event["name"])
    operator = event.get("args", {}).get("op_name")
    if event.get("cat") != "Node" or not name.endswith(_KERNEL) or operator in {None, _CHOICE}:
        return None
    if operator not in _PRODUCTS:
        return str(operator)
    weight = re.sub(r"layers[.]\d+", "layers.N", name.removesuffix(_KERNEL))
    return f"{operator} {weight}"


def profiles(
    package: Path, measures: Sequence[Measure], *, threads: int, steps: int
) -> Iterator[list[Spent]]:
    """Yield what the operators took for each of `measures`, in the mean of `steps` steps."""
    with TemporaryDirectory() as scratch:
        with patch.object(engine_decoder, "session_options", _profiled(Path(scratch))):
            decoder = Decoder(
                package,
                read_manifest(package),
                slots=max(each.rows for each in measures),
                tokens=max(each.past + each.tokens for each in measures),
                threads=threads,
            )
        for measure in measures:
            for _ in range(_WARM_UP_STEPS + steps):
                decoder.forward(list(_rows(measure)))
        events = json.loads(Path(decoder._session.end_profiling()).read_text())
    turn = _WARM_UP_STEPS + steps
    for number in range(len(measures)):
        first = number * turn + _WARM_UP_STEPS
        yield by_operator(events, range(first, first + steps))


def _profiled(scratch: Path) -> Callable[..., ort.SessionOptions]:
    """Return what makes the decoder's own options and adds the profiler."""
    plain = engine_decoder.session_options

    def options(threads: int, activations: Activations) -> ort.SessionOptions:
        made = plain(threads, activations)
        made.enable_profiling = True
        made.profile_file_prefix = str(scratch / "profile")
        return made

    return options


def _rows(measure: Measure) -> Iterator[Row]:
    for slot in range(measure.rows):
        tokens = [_TOKEN + slot] * measure.tokens
        yield Row(slot=slot, past=measure.past, tokens=tokens, num_logits=1)


def table(spent: Sequence[Spent], heading: str) -> str:
    """Return what people read."""
    lines = [f"{heading}: ms of a step, nodes"]
    lines += [f"{each.ms:10.3f} {each.nodes:5.0f}  {each.operator}" for each in spent]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables that the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.operators",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path)
    parser.add_argument("--rows", type=_numbers, default=(1, 4, 8), metavar="N,…")
    parser.add_argument("--prompts", type=_numbers, default=(128,), metavar="N,…")
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args(arguments)
    measures = [Measure(rows, 1, args.depth) for rows in args.rows]
    measures += [Measure(1, tokens, 0) for tokens in args.prompts]
    found = profiles(args.package, measures, threads=args.threads, steps=args.steps)
    for measure, spent in zip(measures, found, strict=True):
        print(table(spent, str(measure)))  # noqa: T201  # it is what was asked for
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
