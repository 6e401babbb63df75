"""Cards: the shipped ones are right, others say what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.config import Config
from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.card import cards_dir, find_card, read_card, read_cards
from tests.modelstore.tiny_source import make_source

if TYPE_CHECKING:
    from pathlib import Path


def test_every_shipped_card_is_read_and_named_as_its_file() -> None:
    cards = read_cards(cards_dir())

    assert [card.name for card in cards] == sorted(path.stem for path in cards_dir().glob("*.yaml"))


def test_the_default_model_has_a_card() -> None:
    assert read_card(find_card(Config().model, cards_dir())).name == Config().model


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    source = make_source(tmp_path)

    with pytest.raises(ModelNotFound, match="available: tiny"):
        find_card("../tiny", source.cards)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title: Tiny", "titel: Tiny", "titel"),
        ("name: tiny", "name: ../tiny", "name"),
        ("package_bytes: 500000", "package_bytes: many", "package_bytes"),
        ("requirement: tiny-model==1.0", "requirement: --index-url=x", "requirement"),
        ("requirement: tiny-model==1.0", "requirement: tiny-model", "requirement"),
        ("title: Tiny", "title: [", "flow sequence"),
        ("title: Tiny", "title: \udcff", "surrogates"),
    ],
)
def test_what_is_wrong_with_a_card_is_said(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    path = make_source(tmp_path).cards / "tiny.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), errors="surrogateescape")

    with pytest.raises(ModelError) as caught:
        read_card(path)

    assert "tiny.yaml" in str(caught.value)
    assert problem in str(caught.value) or "utf-8" in str(caught.value)
