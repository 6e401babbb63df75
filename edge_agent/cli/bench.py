"""`edge-agent bench`: how fast this machine is, what memory it takes, and what quantizing costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.cli.config import read
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.fit import KV_DTYPES

if TYPE_CHECKING:
    from edge_agent.config import Config

PROMPT_TOKENS = (128, 512)
STREAMS = (1, 2, 4, 8)
# The peers' timers use the same: the depth at which decode is timed, and for how many tokens.
DECODE_DEPTH_TOKENS = 128
DECODE_TOKENS = 32
# As llama.cpp's perplexity tool has it, so that figures can be set side by side.
WINDOW_TOKENS = 512


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("bench", help="measure speed and memory of the engine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=_at_least_one, help="compute threads (configured)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="package to load (the configured one)")
    what.add_argument(
        "--random-weights",
        metavar="CARD",
        help="make a package of noise as large as this model and time that; no download",
    )
    _add_noise_options(parser)
    _add_timing_options(parser)
    _add_perplexity_options(parser)
    parser.set_defaults(run=run)


def _add_noise_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --random-weights (what is left out, the card says)")
    group.add_argument("--bits", type=int, choices=(4, 8), help="of a weight")
    group.add_argument("--block", type=int, choices=(32, 64, 128), help="weights to a scale")
    group.add_argument("--head-bits", type=int, choices=(4, 8), help="of embedding and head")


def _add_timing_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is timed")
    group.add_argument(
        "--prompts", type=_numbers, default=PROMPT_TOKENS, metavar="N,…", help="lengths (128,512)"
    )
    group.add_argument(
        "--streams", type=_numbers, default=STREAMS, metavar="N,…", help="at once (1,2,4,8)"
    )
    group.add_argument(
        "--depth", type=_at_least_one, default=DECODE_DEPTH_TOKENS, help="of decode (128)"
    )
    group.add_argument(
        "--tokens", type=_at_least_one, default=DECODE_TOKENS, help="of each answer (32)"
    )
    group.add_argument("--reps", type=_at_least_one, default=3, help="medians of so many (3)")
    group.add_argument("--kv-dtype", choices=KV_DTYPES, help="of the KV cache (configured)")


def _add_perplexity_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("instead of timing")
    group.add_argument("--perplexity", metavar="FILE", help="measure it on this text (UTF-8)")
    group.add_argument(
        "--text-tokens", type=_at_least_one, help="stop after so many tokens of the text (all)"
    )
    group.add_argument(
        "--window", type=_at_least_two, default=WINDOW_TOKENS, help="tokens read at once (512)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    settings = read(args)
    figures = _perplexity(args, settings) if args.perplexity else _timing(args, settings)
    print(json.dumps(figures) if args.json else _table(figures))
    return 0


def _timing(args: argparse.Namespace, settings: Config) -> dict[str, Any]:
    from edge_agent.cli.timing import Task, measure  # noqa: PLC0415  # heavy: when the verb is known

    package = _package(args, settings)
    task = Task(
        prompts=args.prompts,
        streams=args.streams,
        depth=args.depth,
        tokens=args.tokens,
        reps=args.reps,
        threads=_threads(args, settings),
        chunk_tokens=settings.engine.chunk_tokens,
        kv_dtype=_kv_dtype(args, settings, package),
    )
    return measure(package, task)


def _perplexity(args: argparse.Namespace, settings: Config) -> dict[str, Any]:
    from edge_agent.cli.perplexity import measure  # noqa: PLC0415

    package = _package(args, settings)
    return measure(
        package,
        Path(args.perplexity),
        window=args.window,
        most_tokens=args.text_tokens,
        threads=_threads(args, settings),
        kv_dtype=_kv_dtype(args, settings, package),
    )


def _package(args: argparse.Namespace, settings: Config) -> Path:
    from edge_agent.cli.local import find_package, model_name  # noqa: PLC0415
    from edge_agent.cli.random_weights import noise_package  # noqa: PLC0415

    if args.random_weights:
        asked = Precision(bits=args.bits, block=args.block, head_bits=args.head_bits)
        return noise_package(args.random_weights, asked)
    return find_package(model_name(args.model, settings))


def _kv_dtype(args: argparse.Namespace, settings: Config, package: Path) -> str:
    """Return the KV type: as the option says, else as a daemon with this configuration has it."""
    from edge_agent.cli.local import kv_dtype  # noqa: PLC0415

    asked: str | None = args.kv_dtype
    return asked or kv_dtype(settings.engine, package)


def _threads(args: argparse.Namespace, settings: Config) -> int:
    from edge_agent.cli.local import compute_threads  # noqa: PLC0415

    threads: int = args.threads or compute_threads(settings)
    return threads


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_at_least_one(part) for part in text.split(","))


def _at_least_one(text: str) -> int:
    return _at_least(1, text)


def _at_least_two(text: str) -> int:
    return _at_least(2, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        msg = f"{number} is less than {least}"
        raise argparse.ArgumentTypeError(msg)
    return number


def _table(figures: dict[str, Any]) -> str:
    rows = [row for name, value in figures.items() for row in _rows(name, value)]
    return "\n".join(f"{name:28} {value}" for name, value in rows)


# The longer of two that end alike comes first.
_UNITS = {
    "_tok_s": "tok/s",
    "_gb_s": "GB/s",
    "_gb": "GB",
    "_mb": "MB",
    "_ms": "ms",
    "_s": "s",
    "_bytes": "bytes",
}


def _rows(name: str, value: object) -> list[tuple[str, str]]:
    """Return the lines of one figure: the unit in its name goes behind the number."""
    suffix = next((suffix for suffix in _UNITS if name.endswith(suffix)), "")
    title, unit = name.removesuffix(suffix).replace("_", " "), _UNITS.get(suffix, "")
    if isinstance(value, dict):
        return [(f"{title}, {key}", f"{number} {unit}".rstrip()) for key, number in value.items()]
    return [(title, f"{value} {unit}".rstrip())]
