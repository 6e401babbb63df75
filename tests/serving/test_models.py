"""Which names are served, and how a variant's requests reach its base."""

from __future__ import annotations

import pytest

from edge_agent.errors import ModelNotFound
from edge_agent.messages import Message, Request, Role, Sampling
from edge_agent.modelstore.card import Variant
from edge_agent.serving.models import Models

QUESTION = Message(role=Role.USER, content="Why?")
BRIEF = Message(role=Role.SYSTEM, content="Be brief.")
TERSE = Variant(name="terse", title="Terse", variant_of="tiny", system_prompt="Be brief.")
WILD = Variant(name="wild", title="Wild", variant_of="tiny", sampling=Sampling(temperature=2.0))
VARIANTS = {"terse": TERSE, "wild": WILD}


def request(model: str | None) -> Request:
    return Request(id="q", messages=(QUESTION,), model=model)


@pytest.mark.parametrize("name", [None, "tiny", "tiny:latest"])
def test_the_base_gets_requests_as_they_are(name: str | None) -> None:
    models = Models("tiny", "tiny", VARIANTS)

    assert models.names == ("tiny", "terse", "wild")
    assert models.dress(request(name)) == request(name)


@pytest.mark.parametrize("name", ["terse", "terse:latest"])
def test_a_variant_that_is_named_dresses_the_request(name: str) -> None:
    models = Models("tiny", "tiny", VARIANTS)

    assert models.dress(request(name)).messages == (BRIEF, QUESTION)
    assert models.dress(request("wild")).sampling == Sampling(temperature=2.0)


def test_a_variant_can_be_what_requests_without_a_name_get() -> None:
    models = Models("terse", "tiny", VARIANTS)

    assert models.names == ("terse", "tiny", "wild")
    assert models.dress(request(None)).messages == (BRIEF, QUESTION)
    assert models.dress(request("tiny")).messages == (QUESTION,)


@pytest.mark.parametrize("name", ["", ":latest", "huge", "tiny:q4", "Tiny"])
def test_another_name_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ModelNotFound, match="available: tiny, terse, wild"):
        Models("tiny", "tiny", VARIANTS).dress(request(name))


def test_the_models_of_peers_go_by_the_names_they_have_there() -> None:
    models = Models.of_peers(["phi4-mini:latest", "phi", "phi4-mini:latest"])
    assert models.names == ("phi4-mini:latest", "phi")
    for name in (None, "phi", "phi:latest", "phi4-mini:latest"):
        asked = Request(id="a", messages=(), model=name)
        assert models.dress(asked) == asked
    with pytest.raises(ModelNotFound):
        models.dress(Request(id="a", messages=(), model="phi4-mini"))
