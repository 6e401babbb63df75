"""`python -m edge_agent.importers SOURCE PACKAGE --name NAME …`: the import as a process.

Exit status 0 means that PACKAGE is complete and on the disk; what went otherwise than asked is one
sentence on standard output. Errors are one sentence on standard error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from edge_agent.errors import EdgeError
from edge_agent.importers import package
from edge_agent.importers.calibration import TEXT
from edge_agent.importers.doors import open_model
from edge_agent.modelstore.card import Card, Precision, read_card


def main(argv: list[str]) -> int:
    """Import as the command line says and return the exit status."""
    args = _parser().parse_args(argv)
    try:
        card = read_card(args.card) if args.card else None
        with open_model(args.source) as model:
            asked, text = _precision(args, card), _text(args.importance)
            label = _label(args, card)
            note = package.write(model, label, asked, args.package, text=text)
    except (EdgeError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    if note:
        sys.stdout.write(f"{note}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edge_agent.importers")
    parser.add_argument("source", type=Path, help="GGUF file, or model directory")
    parser.add_argument("package", type=Path, help="directory to write; must not exist")
    parser.add_argument("--name", required=True, help="name of the package")
    parser.add_argument("--card", type=Path, help="card that says what the options do not")
    parser.add_argument("--bits", type=int, choices=(4, 8, 32), help="32: floats")
    parser.add_argument("--block", type=int, choices=(32, 64, 128), help="weights to a scale")
    parser.add_argument("--head-bits", type=int, choices=(4, 8), help="of embedding and head")
    parser.add_argument("--activations", choices=("exact", "int8"), help="how they are multiplied")
    parser.add_argument(
        "--importance",
        metavar="TEXT_FILE",
        help="what weights are rounded and scales of an int8 KV cache measured for (a text of many "
        "kinds); none: for nothing in particular, and no scales",
    )
    parser.add_argument("--licence", help="of the weights")
    parser.add_argument("--origin", help="where the weights are from")
    return parser


def _label(args: argparse.Namespace, card: Card | None) -> package.Label:
    origin = args.origin or args.source.name
    if card is None:
        licence = args.licence or "unknown"
        return package.Label(name=args.name, family=args.name, licence=licence, origin=origin)
    return package.Label(
        name=args.name,
        family=card.family,
        licence=args.licence or card.licence,
        origin=origin,
        stop_tokens=card.stop_tokens,
        sampling=card.sampling,
    )


def _precision(args: argparse.Namespace, card: Card | None) -> Precision:
    """Return what the options ask for; what they leave out, the card does."""
    said = msgspec.structs.asdict(card.precision) if card else {}
    asked = {name: getattr(args, name) for name in Precision.__struct_fields__}
    return Precision(**said | {name: value for name, value in asked.items() if value is not None})


def _text(importance: str | None) -> Path | None:
    if importance is None:
        return TEXT
    return None if importance == "none" else Path(importance)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
