"""`edge-agent model prepare`: pack the weights for this machine, so that they are file pages."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

from edge_agent import config
from edge_agent.errors import EdgeError, ModelError
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import need
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.cores import usable_cores

if TYPE_CHECKING:
    import argparse


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `edge-agent model`."""
    parser = verbs.add_parser(
        "prepare", help="pack the weights of a package for this machine, if they are not"
    )
    parser.add_argument("name", metavar="NAME", help="the model's name, as `list` shows it")
    parser.add_argument("--json", action="store_true", help="report in JSON lines on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare the package; with --json the last line of a failure is {"error": sentence}.

    With --json there is nothing for people: each start of the daemon runs it so, and mostly it has
    nothing to do.
    """
    progress = Progress(io.StringIO(), sys.stdout) if args.json else Progress(sys.stderr)
    try:
        prepare(args.name, ModelStore(config.home_dir()), progress)
    except EdgeError as exc:
        progress.end_line()
        if args.json:
            print(json.dumps({"error": str(exc)}), flush=True)
        raise
    progress.say(f"{args.name} is prepared for this machine")
    return 0


def prepare(name: str, store: ModelStore, progress: Progress) -> None:
    """Check the prepared weights of package `name`, all of them, and make them if need be.

    Raises:
        ModelNotFound: there is no such package.
        ModelError: it is damaged, its prepared weights are in use, or the disk is full or
            read-only.
    """
    package = store.package(name)
    manifest = read_manifest(package)
    if need(package, manifest, progress) is None:
        return
    try:
        with holding(
            store.lock_file(name),
            lambda: progress.say(f"another process prepares {name}; waiting for it"),
        ):
            reason = need(package, manifest, progress)  # who had the lock may have done it
            if reason is not None:
                progress.say(f"packing the weights of {name} for this machine: {reason}")
                from edge_agent.importers.prepack import prepack  # noqa: PLC0415  # heavy imports

                prepack(package, manifest, threads=usable_cores(), progress=progress)
    except OSError as exc:
        msg = f"cannot write while preparing {name}: {exc}"
        raise ModelError(msg) from exc
