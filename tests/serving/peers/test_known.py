"""What is known of a peer follows from what it told and from what we asked of it."""

from __future__ import annotations

import pytest

from edge_agent.messages import Message, Policy, Role
from edge_agent.serving.peers.capability import Ability, Flavour
from edge_agent.serving.peers.errand import Errand
from edge_agent.serving.peers.findings import Finding
from edge_agent.serving.peers.known import Known
from tests.serving.peers.double import MODEL
from tests.serving.peers.house import KINDS, request, settings

NOWHERE = "http://127.0.0.1:9"


def errand(words: int) -> Errand:
    messages = (Message(role=Role.USER, content="word " * words),)
    return Errand.of(request(messages=messages), Policy.SITE)


def found(flavour: Flavour, **facts: int | None) -> Finding:
    ability = Ability(flavour=flavour, context_tokens=facts.pop("context_tokens", None))
    return Finding(ability=ability, **facts)  # type: ignore[arg-type]  # its counts are numbers


@pytest.mark.parametrize(("kind", "is_certain"), [(kind, kind == "ollama") for kind in KINDS])
def test_before_a_probe_the_configuration_is_all_there_is(kind: str, *, is_certain: bool) -> None:
    known = Known.by_configuration(settings(NOWHERE, kind, context=2048))
    assert known.found.ability.context_tokens == 2048
    assert known.found.names == {MODEL}
    assert known.is_certain is is_certain
    assert not known.is_cold
    assert known.probed(found(known.found.ability.flavour), running=0).is_certain


@pytest.mark.parametrize(
    ("open_requests", "then", "now", "work"),
    [(None, 0, 2, 2), (5, 0, 0, 5), (5, 2, 2, 5), (5, 2, 0, 3), (5, 2, 3, 6), (1, 2, 1, 1)],
)
def test_our_own_requests_are_counted_once(
    open_requests: int | None, then: int, now: int, work: int
) -> None:
    known = Known(found=found(Flavour.VLLM, open_requests=open_requests), running_then=then)
    assert known.work(now) == work


def test_a_model_is_cold_until_it_is_asked_for_and_then_as_large_as_it_had_to_be() -> None:
    bare = Known.by_configuration(settings(NOWHERE, "ollama"))
    cold = bare.probed(found(Flavour.OLLAMA, context_tokens=131072), running=0)
    assert cold.is_cold
    warm = cold.loaded_for(errand(5000), None)
    assert not warm.is_cold
    assert warm.found.loaded_tokens == 16384
    assert warm.loaded_for(errand(1), None).found.loaded_tokens == 16384
    assert warm.loaded_for(errand(1), 4096).found.loaded_tokens == 4096


def test_servers_of_the_other_kind_are_never_cold() -> None:
    known = Known.by_configuration(settings(NOWHERE)).probed(found(Flavour.VLLM), running=0)
    assert not known.is_cold
