"""How verbs that take long report: to people on standard error, to programs in JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeError
from edge_agent.modelstore.progress import Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Let the verb of `parser` report to programs too."""
    parser.add_argument("--json", action="store_true", help="report in JSON lines on stdout")


@contextmanager
def reporting(*, is_json: bool) -> Iterator[Progress]:
    """Yield where to report; for programs the last line of a failure is {"error": sentence}."""
    progress = Progress(sys.stderr, sys.stdout if is_json else None)
    try:
        yield progress
    except EdgeError as exc:
        progress.end_line()
        if is_json:
            print(json.dumps({"error": str(exc)}), flush=True)
        raise
