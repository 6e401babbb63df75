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
from edge_agent.modelstore.prepared import check, fault
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.cores import usable_cores

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from edge_agent.modelstore.manifest import Manifest


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `edge-agent model`."""
    parser = verbs.add_parser(
        "prepare", help="pack the weights of a package for this machine, if they are not"
    )
    parser.add_argument("name", metavar="NAME", help="the model's name, as `list` shows it")
    parser.add_argument(
        "--quick", action="store_true", help="do not read the packed weights that are there"
    )
    parser.add_argument("--json", action="store_true", help="report in JSON lines on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare the package; with --json the last line of a failure is {"error": sentence}.

    With --json there is nothing for people: each start of the daemon runs it so, and mostly it has
    nothing to do.
    """
    progress = Progress(io.StringIO(), sys.stdout) if args.json else Progress(sys.stderr)
    try:
        prepare(args.name, ModelStore(config.home_dir()), progress, is_quick=args.quick)
    except EdgeError as exc:
        progress.end_line()
        if args.json:
            print(json.dumps({"error": str(exc)}), flush=True)
        raise
    progress.say(f"{args.name} is prepared for this machine")
    return 0


def prepare(name: str, store: ModelStore, progress: Progress, *, is_quick: bool) -> None:
    """Make prepared weights for package `name` unless they are there and in order.

    Quick leaves their content to the next load, which compares every byte.

    Raises:
        ModelNotFound: there is no such package.
        ModelError: it is damaged, its prepared weights are in use, or the disk is full or
            read-only.
    """
    package = store.package(name)
    manifest = read_manifest(package)
    if _need(package, manifest, progress, is_quick=is_quick) is None:
        return
    try:
        with holding(
            store.lock_file(name),
            lambda: progress.say(f"another process prepares {name}; waiting for it"),
        ):
            # Who had the lock may have done it meanwhile.
            reason = _need(package, manifest, progress, is_quick=is_quick)
            if reason is not None:
                progress.say(f"packing the weights of {name} for this machine: {reason}")
                from edge_agent.importers.prepack import prepack  # noqa: PLC0415  # heavy imports

                prepack(package, manifest, threads=usable_cores(), progress=progress)
    except OSError as exc:
        msg = f"cannot write while preparing {name}: {exc}"
        raise ModelError(msg) from exc


def _need(package: Path, manifest: Manifest, progress: Progress, *, is_quick: bool) -> str | None:
    """Return why `package` must be prepared; None if it is."""
    reason = fault(package, manifest)
    if reason is None and not is_quick:
        try:
            check(package, manifest, progress)
        except ModelError as exc:
            return str(exc)
    return reason
