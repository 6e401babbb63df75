"""`edge-agent model`: pull, prepare, calibrate, list, show, verify and remove model packages."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import msgspec

from edge_agent import config
from edge_agent.cli import model_calibrate, model_prepare
from edge_agent.errors import EdgeError
from edge_agent.modelstore.catalog import Catalog, catalog_of
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.pull import pull, remove
from edge_agent.modelstore.store import ModelStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_MB = 1_000_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("model", help="fetch, list, check and remove model packages")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="name the packages here and those that can be pulled")
    listing.set_defaults(run=run_list)
    pulling = _add_verb(verbs, "pull", run_pull, "prepare a model, if it is not here")
    pulling.add_argument("--json", action="store_true", help="report in JSON lines on stdout")
    model_prepare.add_parser(verbs)
    model_calibrate.add_parser(verbs)
    _add_verb(verbs, "show", run_show, "print what is known of a model, as JSON")
    _add_verb(verbs, "verify", run_verify, "compare every file of a package with its hash")
    _add_verb(verbs, "remove", run_remove, "remove a package")


def run_pull(args: argparse.Namespace) -> int:
    """Prepare the model; with --json the last line of a failure is {"error": sentence}."""
    progress = Progress(sys.stderr, sys.stdout if args.json else None)
    try:
        path = pull(args.name, store=_store(), catalog=_catalog(), progress=progress)
    except EdgeError as exc:
        progress.end_line()
        if args.json:
            print(json.dumps({"error": str(exc)}), flush=True)
        raise
    progress.say(f"{args.name} is ready in {path}")
    return 0


def run_list(_: argparse.Namespace) -> int:
    """Print one line per model: name, megabytes, state."""
    store = _store()
    for name in store.names():
        manifest = read_manifest(store.package(name))
        size = sum(file.bytes for file in manifest.files.values()) / _MB
        print(f"{name:<32} {size:8.1f} MB  here")
    for card in _catalog().cards:
        if card.name not in store.names():
            print(f"{card.name:<32} {card.package_bytes / _MB:8.1f} MB  can be pulled")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the manifest of a package, else the card of a model."""
    store = _store()
    facts = (
        read_manifest(store.package(args.name))
        if args.name in store.names()
        else _catalog().entry(args.name)
    )
    print(msgspec.json.format(msgspec.json.encode(facts)).decode())
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Read the whole package."""
    progress = Progress(sys.stderr)
    try:
        _store().verify(args.name, progress)
    finally:
        progress.end_line()
    print(f"{args.name}: every file is what it should be")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove the package."""
    remove(args.name, store=_store(), progress=Progress(sys.stderr))
    print(f"{args.name} is removed")
    return 0


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary)
    parser.add_argument("name", metavar="NAME", help="the model's name, as `list` shows it")
    parser.set_defaults(run=run)
    return parser


def _catalog() -> Catalog:
    return catalog_of(config.home_dir())


def _store() -> ModelStore:
    return ModelStore(config.home_dir())
