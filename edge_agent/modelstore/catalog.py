"""All cards there are: a user's own, and those that ship with the program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.card import Card, Variant, read_entry

if TYPE_CHECKING:
    from collections.abc import Iterator


def shipped_cards() -> Path:
    """Return where the program's cards are: inside the installed package, or beside its source."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "models"
    return shipped if shipped.is_dir() else package.parent / "models"


def catalog_of(home: Path) -> Catalog:
    """Return the cards below `home`, which go before those of the same name that ship."""
    return Catalog(home / "cards", shipped_cards())


class Catalog:
    """The cards in some directories, of which the first go before; read once, when made."""

    def __init__(self, *directories: Path) -> None:
        """Read every `*.yaml` there. One that cannot be read is no entry, but a problem."""
        self._paths: dict[str, Path] = {}
        self._entries: dict[str, Card | Variant] = {}
        self._problems: dict[str, ModelError] = {}
        for path in _card_files(directories):
            if path.stem not in self._paths:
                self._paths[path.stem] = path
                self._read(path)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the cards that cannot be read, a sentence each."""
        return tuple(map(str, self._problems.values()))

    @property
    def cards(self) -> tuple[Card, ...]:
        """The models, by name."""
        return tuple(entry for entry in self._sorted() if isinstance(entry, Card))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants, by name."""
        return tuple(entry for entry in self._sorted() if isinstance(entry, Variant))

    def __contains__(self, name: str) -> bool:
        """Whether there is a card of this name that can be read."""
        return name in self._entries

    def entry(self, name: str) -> Card | Variant:
        """Return the card `name`.

        Raises:
            ModelNotFound: there is none; the error names those there are.
            ModelError: it cannot be read.
        """
        if name in self._problems:
            raise self._problems[name]
        if name not in self._entries:
            raise ModelNotFound(name, tuple(sorted(self._entries)))
        return self._entries[name]

    def card(self, name: str) -> Card:
        """Return the card of the model `name`.

        Raises:
            ModelNotFound, ModelError: as `entry`, or it is a variant and no model to be a base.
        """
        entry = self.entry(name)
        if isinstance(entry, Card):
            return entry
        msg = f"{name} is a variant itself, and no model to be a base"
        raise ModelError(msg)

    def path(self, name: str) -> Path:
        """Return the file of the card `name`; raises as `entry`."""
        self.entry(name)
        return self._paths[name]

    def base(self, name: str) -> str:
        """Return the model that serves `name`: a variant's base, else the name itself."""
        entry = self._entries.get(name)
        return entry.variant_of if isinstance(entry, Variant) else name

    def variants_of(self, base: str) -> dict[str, Variant]:
        """Return the variants of model `base`, by name."""
        return {variant.name: variant for variant in self.variants if variant.variant_of == base}

    def _sorted(self) -> Iterator[Card | Variant]:
        return (self._entries[name] for name in sorted(self._entries))

    def _read(self, path: Path) -> None:
        try:
            self._entries[path.stem] = read_entry(path)
        except ModelError as exc:
            self._problems[path.stem] = exc


def _card_files(directories: tuple[Path, ...]) -> Iterator[Path]:
    return (path for directory in directories for path in sorted(directory.glob("*.yaml")))
