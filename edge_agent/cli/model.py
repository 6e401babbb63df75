"""`edge-agent model`: everything that is done to model packages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from edge_agent import config
from edge_agent.cli import model_calibrate, model_import, model_prepare
from edge_agent.cli.reporting import add_json_option, reporting
from edge_agent.errors import ModelError
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
    listing = verbs.add_parser("list", help="name the packages here, and what can be pulled")
    listing.set_defaults(run=run_list)
    pulling = _add_verb(verbs, "pull", run_pull, "prepare a model, if it is not here")
    add_json_option(pulling)
    model_import.add_parser(verbs)
    model_prepare.add_parser(verbs)
    model_calibrate.add_parser(verbs)
    _add_verb(verbs, "show", run_show, "print what is known of a model, as JSON")
    _add_verb(verbs, "verify", run_verify, "compare every file of a package with its hash")
    _add_verb(verbs, "remove", run_remove, "remove a package")


def run_pull(args: argparse.Namespace) -> int:
    """Prepare the model, or the base of a variant, if it is not here."""
    with reporting(is_json=args.json) as progress:
        path = pull(args.name, store=_store(), catalog=_catalog(), progress=progress)
        progress.say(f"{path.name} is ready in {path}")
    return 0


def run_list(_: argparse.Namespace) -> int:
    """Print one line per package, model and variant: name, megabytes, state."""
    store, catalog = _store(), _catalog()
    here = store.names()
    for name in here:
        _print_line(name, *_size_and_state(store, name))
    for card in catalog.cards:
        if card.name not in here:
            _print_line(card.name, card.package_bytes, "can be pulled")
    for variant in catalog.variants:
        state = "is here" if variant.variant_of in here else "can be pulled"
        _print_line(variant.name, None, f"variant of {variant.variant_of}, which {state}")
    for problem in catalog.problems:
        print(f"card not read: {problem}", file=sys.stderr)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the manifest of a package, else the card of a model or of a variant and its file."""
    store = _store()
    if args.name in store.names():
        facts = msgspec.to_builtins(read_manifest(store.package(args.name)))
    else:
        catalog = _catalog()
        card = msgspec.to_builtins(catalog.entry(args.name))
        facts = {"card": str(catalog.path(args.name)), **card}
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


def _size_and_state(store: ModelStore, name: str) -> tuple[int | None, str]:
    try:
        manifest = read_manifest(store.package(name))
    except ModelError as exc:
        return None, f"damaged: {exc}"
    return manifest.total_bytes, "here"


def _print_line(name: str, size_bytes: int | None, state: str) -> None:
    size = "-" if size_bytes is None else f"{size_bytes / _MB:.1f} MB"
    print(f"{name:<32} {size:>11}  {state}")


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
