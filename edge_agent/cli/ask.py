"""`edge-agent ask`: one answer in the terminal, with the engine in this very process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.messages import Delta, Done, Failed, Message, Request, Role, Sampling

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("ask", help="answer one prompt in the terminal")
    parser.add_argument("prompt", help="the prompt; - reads it from standard input")
    parser.add_argument("--system", help="system message")
    parser.add_argument("--model", help="package to ask (default: the configured one)")
    parser.add_argument("--max-tokens", type=int, help="longest answer")
    parser.add_argument("--temperature", type=float, help="0 is greedy (default: the model's)")
    parser.add_argument("--seed", type=int, help="makes a sampled answer repeatable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer as it comes; figures go to standard error."""
    from edge_agent import config  # noqa: PLC0415  # heavy imports wait until the verb is known
    from edge_agent.cli.local import (  # noqa: PLC0415
        compute_threads,
        dress,
        find_package,
        kv_dtype,
        model_name,
    )
    from edge_agent.engine.engine import Engine  # noqa: PLC0415

    settings = config.load(Path(args.config) if args.config else None)
    name = model_name(args.model, settings)
    package = find_package(name)
    # Nobody comes beside it or after it.
    alone = msgspec.structs.replace(settings.engine, slots=1, prefix_bytes=0)
    engine = Engine(
        package,
        slots=alone.slots,
        context=alone.context,
        chunk_tokens=alone.chunk_tokens,
        threads=compute_threads(settings),
        kv_dtype=kv_dtype(alone, package),
        queue_requests=1,
        prefix_bytes=0,
    )
    engine.submit(engine.prepare(dress(name, _request(args))))
    while engine.busy:
        for _, event in engine.step():
            match event:
                case Delta():
                    print(event.text, end="", flush=True)
                case Done():
                    print()
                    _print_figures(event)
                case Failed():
                    print(event.message, file=sys.stderr)
                    return 1
                case _:
                    pass
    return 0


def _request(args: argparse.Namespace) -> Request:
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    system = [Message(role=Role.SYSTEM, content=args.system)] if args.system else []
    return Request(
        id="ask",
        messages=(*system, Message(role=Role.USER, content=prompt)),
        max_tokens=args.max_tokens,
        sampling=Sampling(temperature=args.temperature, seed=args.seed),
    )


def _print_figures(done: Done) -> None:
    usage, timings = done.usage, done.timings
    decoded = usage.completion_tokens - 1
    pace = f", {decoded / timings.decode_s:.1f} tokens/s" if decoded and timings.decode_s else ""
    print(
        f"[{usage.prompt_tokens} tokens read in {timings.prefill_s:.2f} s, "
        f"{usage.completion_tokens} written{pace}, ended by {done.finish_reason}]",
        file=sys.stderr,
    )
