"""Which cards there are, and whose go before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.config import Config
from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.card import Card, Variant
from edge_agent.modelstore.catalog import Catalog, catalog_of, shipped_cards
from tests.importers.tiny_card import tiny_card

if TYPE_CHECKING:
    from pathlib import Path

TERSE = Variant(name="terse", title="Terse", variant_of="tiny", system_prompt="Be brief.")


def write(directory: Path, *entries: Card | Variant) -> Path:
    directory.mkdir(exist_ok=True)
    for entry in entries:
        (directory / f"{entry.name}.yaml").write_bytes(msgspec.yaml.encode(entry))
    return directory


def test_every_shipped_card_can_be_read_and_every_variant_has_its_base(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)

    assert catalog.problems == ()
    names = {path.stem for path in shipped_cards().glob("*.yaml")}
    cards, variants = ({entry.name for entry in kind} for kind in (catalog.cards, catalog.variants))
    assert cards | variants == names
    assert {variant.variant_of for variant in catalog.variants} <= cards


def test_the_default_model_has_a_card(tmp_path: Path) -> None:
    assert Config().model in catalog_of(tmp_path)


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    catalog = Catalog(write(tmp_path / "cards", tiny_card(), TERSE))

    with pytest.raises(ModelNotFound, match="available: terse, tiny"):
        catalog.entry("../tiny")
    with pytest.raises(ModelNotFound):
        catalog.path("huge")


def test_a_users_card_goes_before_a_shipped_one(tmp_path: Path) -> None:
    own = msgspec.structs.replace(tiny_card(), title="My own")
    mine, shipped = write(tmp_path / "mine", own), write(tmp_path / "shipped", tiny_card(), TERSE)

    catalog = Catalog(mine, shipped)

    assert catalog.cards == (own,)
    assert catalog.path("tiny") == mine / "tiny.yaml"
    assert catalog.path("terse") == shipped / "terse.yaml"


def test_a_variant_leads_to_its_base(tmp_path: Path) -> None:
    catalog = Catalog(write(tmp_path / "cards", tiny_card(), TERSE))

    assert [catalog.base(name) for name in ("terse", "tiny", "other")] == ["tiny", "tiny", "other"]
    assert catalog.variants_of("tiny") == {"terse": TERSE}
    assert catalog.variants_of("terse") == {}


def test_a_card_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    cards = write(tmp_path / "cards", tiny_card())
    (cards / "broken.yaml").write_text("name: [")

    catalog = Catalog(cards)

    assert [card.name for card in catalog.cards] == ["tiny"]
    assert len(catalog.problems) == 1
    assert "broken" not in catalog
    with pytest.raises(ModelError, match=r"broken\.yaml"):
        catalog.entry("broken")


def test_a_directory_that_is_not_there_holds_no_cards(tmp_path: Path) -> None:
    assert Catalog(tmp_path / "none").cards == ()
