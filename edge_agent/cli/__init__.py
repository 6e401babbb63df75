"""The command line: one verb, one file."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.cli import ask, bench, config, doctor, model, serve
from edge_agent.cli.output import hush
from edge_agent.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_STATUS = 2  # what argparse itself returns: the command, not the work, is wrong
INTERRUPTED_STATUS = 130  # what a shell makes of SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the command line names and return the exit status."""
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except EdgeError as exc:
        print(f"edge-agent: {exc}", file=sys.stderr)
        return USAGE_STATUS if isinstance(exc, ConfigError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        hush()
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="edge-agent", description="Answers prompts from MQTT and HTTP on this machine's CPU."
    )
    root.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    root.set_defaults(config=None)
    config.add_option(root)
    verbs = root.add_subparsers(required=True, metavar="VERB")
    for verb in (serve, ask, model, bench, doctor, config):
        verb.add_parser(verbs)
    for verb_parser in verbs.choices.values():
        config.add_option(verb_parser)
    return root
