"""`edge-agent model calibrate`: measure how large keys and values become, for an int8 KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.cli.config import read
from edge_agent.cli.local import compute_threads, find_package
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    import argparse


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `edge-agent model`."""
    parser = verbs.add_parser(
        "calibrate", help="measure keys and values over a text, as engine.kv_dtype int8 needs it"
    )
    parser.add_argument("name", metavar="NAME", help="the model's name, as `list` shows it")
    parser.add_argument(
        "--text", metavar="FILE", help="a text of the kind it will read (one that comes along)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate the package; a second time is as good as the first, and replaces it."""
    from edge_agent.importers.calibrate import calibrate  # noqa: PLC0415  # loads the engine

    package = find_package(args.name)
    text = _text(Path(args.text)) if args.text else None
    try:
        tokens = calibrate(package, threads=compute_threads(read(args)), text=text)
    except OSError as exc:
        msg = f"cannot write the scales of {args.name}: {exc}"
        raise ModelError(msg) from exc
    print(f"{args.name} is calibrated with {tokens} tokens; engine.kv_dtype may be int8")
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
