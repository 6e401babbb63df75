"""`edge-agent model import` and `export`: packages from what lies on this machine, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_agent import config
from edge_agent.cli.reporting import add_json_option, reporting
from edge_agent.errors import ModelError
from edge_agent.modelstore import archive
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.modelstore.local import Asked, import_model
from edge_agent.modelstore.store import ModelStore

if TYPE_CHECKING:
    import argparse


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register both verbs below `edge-agent model`."""
    importing = verbs.add_parser("import", help="make a package of weights on this machine")
    importing.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="GGUF file, Hugging Face or onnxruntime-genai directory, or an exported package",
    )
    importing.add_argument("--name", help="name of the package (default: an exported one's own)")
    importing.add_argument("--bits", type=int, choices=(4, 8, 32), help="of a weight; 32: floats")
    importing.add_argument("--block", type=int, choices=(32, 64, 128), help="weights to a scale")
    importing.add_argument("--head-bits", type=int, choices=(4, 8), help="of embedding and head")
    importing.add_argument(
        "--activations", choices=("exact", "int8"), help="how they are multiplied"
    )
    importing.add_argument(
        "--importance",
        metavar="TEXT_FILE",
        type=_text,
        help="text to round weights and scale an int8 KV cache for (default: our own, of many "
        "kinds); none: for no text, and no such scales",
    )
    importing.add_argument("--licence", help="of the weights")
    add_json_option(importing)
    importing.set_defaults(run=run_import)
    exporting = verbs.add_parser("export", help="write a package to a file, to import elsewhere")
    exporting.add_argument("name", metavar="NAME", help="the model's name, as `list` shows it")
    exporting.add_argument("file", metavar="FILE", type=Path, help="must not be there")
    add_json_option(exporting)
    exporting.set_defaults(run=run_export)


def run_import(args: argparse.Namespace) -> int:
    """Import the source; what no option says, its files or a card of that name say."""
    home = config.home_dir()
    precision = Precision(
        bits=args.bits,
        block=args.block,
        head_bits=args.head_bits,
        activations=args.activations,
    )
    asked = Asked(
        name=args.name, precision=precision, licence=args.licence, importance=args.importance
    )
    store, catalog = ModelStore(home), catalog_of(home)
    with reporting(is_json=args.json) as progress:
        path = import_model(args.source, asked, store=store, catalog=catalog, progress=progress)
        progress.say(f"{path.name} is ready in {path}")
    return 0


def _text(value: str) -> Path | Literal["none"]:
    # The import runs in another directory.
    return "none" if value == "none" else Path(value).absolute()


def run_export(args: argparse.Namespace) -> int:
    """Export the package, without what was prepared for this very machine."""
    with reporting(is_json=args.json) as progress:
        package = ModelStore(config.home_dir()).package(args.name)
        try:
            archive.export(package, args.file.absolute(), progress)
        except OSError as exc:
            msg = f"cannot write {args.file}: {exc.strerror}"
            raise ModelError(msg) from exc
        progress.say(f"{args.name} is in {args.file}")
    return 0
