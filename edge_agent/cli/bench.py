"""`edge-agent bench`: how fast the engine is on this machine, and what memory it takes.

The engine runs in this process, so the memory figures are those of an engine process. Prompts are
random token ids and answers never stop early: only time and memory mean anything here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.engine.answer import Prepared
    from edge_agent.engine.engine import Engine

PROMPT_TOKENS = (128, 512)
STREAMS = (1, 2, 4, 8)
# The peers' timers use the same: the depth at which decode is timed, and for how many tokens.
DECODE_DEPTH_TOKENS = 128
DECODE_TOKENS = 32
CONTEXT_TOKENS = 1024


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("bench", help="measure speed and memory of the engine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", help="package to load (default: the configured one)")
    parser.add_argument(
        "--reps", type=_at_least_one, default=3, help="repeats; medians are shown (3)"
    )
    parser.add_argument(
        "--threads", type=_at_least_one, help="compute threads (default: configured)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from edge_agent import config  # noqa: PLC0415  # heavy imports wait until the verb is known
    from edge_agent.cli.local import compute_threads, find_package  # noqa: PLC0415

    settings = config.load(Path(args.config) if args.config else None)
    figures = measure(
        find_package(args.model or settings.model),
        threads=args.threads or compute_threads(settings),
        chunk_tokens=settings.engine.chunk_tokens,
        reps=args.reps,
    )
    print(json.dumps(figures) if args.json else _table(figures))
    return 0


def measure(package: Path, *, threads: int, chunk_tokens: int, reps: int) -> dict[str, Any]:
    """Load `package` and return the figures, each with its unit in its name."""
    from edge_agent.engine.engine import Engine  # noqa: PLC0415

    began_s = time.perf_counter()
    engine = Engine(
        package,
        slots=max(STREAMS),
        context=CONTEXT_TOKENS,
        chunk_tokens=chunk_tokens,
        threads=threads,
        queue_requests=max(STREAMS),
    )
    load_s = time.perf_counter() - began_s
    _prefill_s(engine, 16)  # the first step pays for buffers that all others reuse
    prefill_s = {n: _median(reps, partial(_prefill_s, engine, n)) for n in PROMPT_TOKENS}
    return {
        "model": engine.name,
        "threads": threads,
        "load_s": round(load_s, 2),
        "ttft_ms": round(prefill_s[PROMPT_TOKENS[0]] * 1000, 1),
        "prefill_tok_s": {str(n): round(n / seconds, 1) for n, seconds in prefill_s.items()},
        "decode_tok_s": {
            str(n): round(_median(reps, partial(_decode_tok_s, engine, n)), 1) for n in STREAMS
        },
        **_memory_mb(),
    }


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"{number} is less than 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _median(reps: int, figure: Callable[[], float]) -> float:
    return statistics.median(figure() for _ in range(reps))


def _prefill_s(engine: Engine, prompt_tokens: int) -> float:
    """Return the seconds from a prompt's arrival to its first token."""
    began_s = time.perf_counter()
    engine.submit(_prepared("prefill", range(1000, 1000 + prompt_tokens), max_tokens=1))
    _drain(engine)
    return time.perf_counter() - began_s


def _decode_tok_s(engine: Engine, streams: int) -> float:
    """Return tokens per second of `streams` answers together, after their first tokens."""
    for i in range(streams):
        prompt = range(1000 + i, 1000 + i + DECODE_DEPTH_TOKENS)
        # The first answers decode on while later prompts are read; all must outlast the clock.
        engine.submit(_prepared(f"decode-{i}", prompt, max_tokens=DECODE_TOKENS + 4 * streams))
    while engine.waiting or engine.prefilling:
        engine.step()
    began_s = time.perf_counter()
    for _ in range(DECODE_TOKENS):
        engine.step()
    elapsed_s = time.perf_counter() - began_s
    _drain(engine)
    return streams * DECODE_TOKENS / elapsed_s


def _drain(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def _prepared(name: str, prompt: Sequence[int], *, max_tokens: int) -> Prepared:
    from edge_agent.engine.answer import Prepared  # noqa: PLC0415

    return Prepared(
        id=name,
        prompt=list(prompt),
        max_tokens=max_tokens,
        stop=(),
        stop_ids=(),
        sampling=Sampling(temperature=0),
    )


def _memory_mb() -> dict[str, int]:
    """Return this process's memory in megabytes: anonymous, file-backed, and the peak of all."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    fields = {"rss_anon_mb": "RssAnon", "rss_file_mb": "RssFile", "peak_rss_mb": "VmHWM"}
    return {ours: int(status[name].split()[0]) * 1024 // 10**6 for ours, name in fields.items()}


def _table(figures: dict[str, Any]) -> str:
    rows = [
        ("model", figures["model"]),
        ("threads", figures["threads"]),
        ("load", f"{figures['load_s']} s"),
        (f"first token after {PROMPT_TOKENS[0]}", f"{figures['ttft_ms']} ms"),
        *((f"prefill {n}", f"{v} tok/s") for n, v in figures["prefill_tok_s"].items()),
        *((f"decode, {n} streams", f"{v} tok/s") for n, v in figures["decode_tok_s"].items()),
        ("memory, anonymous", f"{figures['rss_anon_mb']} MB"),
        ("memory, file pages", f"{figures['rss_file_mb']} MB"),
        ("memory, peak", f"{figures['peak_rss_mb']} MB"),
    ]
    return "\n".join(f"{name:24} {value}" for name, value in rows)
