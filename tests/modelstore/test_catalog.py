"""Which cards there are, and whose go before."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import Config
from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.card import Card, Variant
from edge_agent.modelstore.catalog import Catalog, catalog_of, shipped_cards
from edge_agent.modelstore.fit import linear_weights, planned, raw_bytes
from edge_agent.modelstore.sources import HfSource, PypiSource
from tests.importers.tiny_card import tiny_card

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
    default = Config().model
    assert default is not None
    assert default in catalog_of(tmp_path)


@pytest.mark.parametrize("card", catalog_of(Path("/none")).cards, ids=lambda card: card.name)
def test_a_shipped_card_pins_every_byte_of_its_source(card: Card) -> None:
    match card.source:
        case HfSource(files=files, hashes=hashes):
            assert re.fullmatch("[0-9a-f]{40}", card.source.revision)
            assert set(files) == set(hashes)
            assert card.source.bytes == sum(file.bytes for file in hashes.values())
        case source:
            assert isinstance(source, PypiSource)


def test_the_dimensions_of_phi_4_mini_are_those_that_were_published(tmp_path: Path) -> None:
    cards = [card for card in catalog_of(tmp_path).cards if card.family == "phi-4-mini"]

    assert len(cards) == 3
    for card in cards:
        assert card.shape is not None
        assert card.rope is not None
        embedding, norms = card.shape.vocab * card.shape.hidden, 65 * card.shape.hidden
        assert linear_weights(card.shape) + embedding + norms == 3_836_021_760
        factors = len(card.rope.short_factors), len(card.rope.long_factors)
        assert factors == (card.rope.dims // 2,) * 2
        assert card.rope.attention_factor == pytest.approx(1.190238, abs=1e-6)
        shape, quantization = planned(card)
        assert 1.0 < card.package_bytes / raw_bytes(shape, quantization) < 1.02


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


def test_a_variant_is_no_base(tmp_path: Path) -> None:
    twice = msgspec.structs.replace(TERSE, name="twice", variant_of="terse")
    catalog = Catalog(write(tmp_path / "cards", tiny_card(), TERSE, twice))

    assert catalog.card("tiny") == tiny_card()
    with pytest.raises(ModelError, match="terse is a variant itself, and no model to be a base"):
        catalog.card(catalog.base("twice"))


def test_a_directory_that_is_not_there_holds_no_cards(tmp_path: Path) -> None:
    assert Catalog(tmp_path / "none").cards == ()
