"""`edge-agent config`: is the configuration right, and what does it amount to?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent import config

if TYPE_CHECKING:
    from collections.abc import Iterator


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("config", help="check or show the configuration")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    check = verbs.add_parser("check", help="say ok, or what is wrong and where")
    check.set_defaults(run=run_check)
    add_option(check)
    show = verbs.add_parser("show", help="print every key with its value and meaning, as YAML")
    show.set_defaults(run=run_show)
    add_option(show)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take `--config FILE`, before the verb or after it."""
    # Without a default of its own, what stood before the verb is not forgotten after it.
    parser.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration (YAML)"
    )


def read(args: argparse.Namespace) -> config.Config:
    """Return the configuration that the command line and the environment name."""
    return config.load(Path(args.config) if args.config else None)


def run_check(args: argparse.Namespace) -> int:
    """Read the configuration; what is wrong with it becomes the error of this command."""
    read(args)
    print("ok")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the configuration in force."""
    for line in as_yaml(read(args)):
        print(line)
    return 0


def as_yaml(settings: config.Config) -> Iterator[str]:
    """Yield `settings` line by line, each key under its help."""
    tree: dict[str, Any] = msgspec.to_builtins(settings)
    section = ""
    for knob in config.knobs():
        parent, _, leaf = knob.path.rpartition(".")
        if parent != section:
            section = parent
            yield f"\n{section}:"
        indent = "  " if section else ""
        value = tree[section][leaf] if section else tree[leaf]
        yield f"{indent}# {knob.help}"
        # JSON is YAML, and quotes whatever needs it.
        yield f"{indent}{leaf}: {json.dumps(value, ensure_ascii=False)}"
