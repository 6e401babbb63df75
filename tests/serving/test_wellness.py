"""What health says of who can answer, against what the router would do."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import Served, State
from edge_agent.serving.admission import House, Load
from edge_agent.serving.peers.breaker import Standing
from edge_agent.serving.peers.capability import Flavour
from edge_agent.serving.peers.peer import PeerState
from edge_agent.serving.wellness import answers, obstacles, peers_health, with_contexts
from tests.serving.house import CALM, RULES

LOAD = Load(house=CALM, open_requests=0, open_bytes=0, pace_s=None, is_draining=False)


def peer(name: str, zone: str = "site", breaker: Standing = Standing.CLOSED) -> PeerState:
    return PeerState(
        name=name,
        kind="openai",
        zone=zone,
        model="phi",
        flavour=Flavour.VLLM,
        breaker=breaker,
        running=1,
        problem=None,
    )


PEERS = (peer("attic"), peer("rack", "cloud"), peer("barn", breaker=Standing.OPEN))


def test_who_answers_is_here_and_where_prompts_may_go() -> None:
    assert answers(LOAD, PEERS, RULES) == ("local", "attic")
    assert answers(LOAD, PEERS, replace(RULES, policy=Policy.ANY)) == ("local", "attic", "rack")
    assert answers(LOAD, PEERS, replace(RULES, policy=Policy.LOCAL)) == ("local",)
    assert answers(LOAD, PEERS, replace(RULES, fallback="never")) == ("local",)


@pytest.mark.parametrize(
    "house",
    [
        replace(CALM, level=Level.CRITICAL),
        replace(CALM, state=State.RELAY),
        replace(CALM, state=State.LOADING),
        replace(CALM, state=State.HELD),
    ],
)
def test_peers_answer_where_the_engine_cannot(house: House) -> None:
    assert answers(replace(LOAD, house=house), PEERS, RULES) == ("attic",)
    assert answers(replace(LOAD, house=house), (), RULES) == ()


def test_a_model_that_loads_on_demand_answers() -> None:
    unloaded = replace(LOAD, house=replace(CALM, state=State.UNLOADED))
    assert answers(unloaded, (), RULES) == ("local",)
    assert obstacles(unloaded, RULES) == ()


def test_who_is_asked_first_comes_first() -> None:
    unloaded = replace(LOAD, house=replace(CALM, state=State.UNLOADED))
    assert answers(unloaded, PEERS, RULES) == ("attic", "local")
    assert answers(LOAD, PEERS, replace(RULES, fallback="prefer-peer")) == ("attic", "local")


def test_a_peer_that_probes_do_not_reach_answers_nobody() -> None:
    away = msgspec.structs.replace(peer("attic"), is_well=False)
    assert answers(LOAD, (away,), RULES) == ("local",)
    relay = replace(LOAD, house=replace(CALM, state=State.RELAY))
    assert answers(relay, (away,), RULES) == ()


def test_a_line_is_no_obstacle_but_a_full_one_is() -> None:
    assert obstacles(LOAD, RULES) == ()
    assert obstacles(replace(LOAD, open_requests=1), RULES) == ()
    [full] = obstacles(replace(LOAD, open_requests=2), RULES)
    assert full == "queue: 2 requests are inside, the limit"


@pytest.mark.parametrize(
    ("house", "sentence"),
    [
        (replace(CALM, level=Level.SOFT), "pressure: memory is soft"),
        (replace(CALM, state=State.LOADING, detail="starting"), "loading: starting"),
        (replace(CALM, state=State.RELAY, detail="no model"), "no-local-model: no model"),
    ],
)
def test_an_obstacle_says_what_is_in_the_way(house: House, sentence: str) -> None:
    load = replace(LOAD, house=house)
    assert obstacles(load, RULES) == (sentence,)


def test_peers_are_told_in_plain_words() -> None:
    attic, _, barn = peers_health(PEERS)
    assert (attic.name, attic.zone, attic.breaker, attic.running) == ("attic", "site", "closed", 1)
    assert barn.breaker == "open"


@pytest.mark.parametrize(
    ("attic", "barn", "rack", "room"),
    [
        (2048, 8192, None, 8192),  # rack is out of reach
        (2048, None, 8192, None),
        (None, None, None, None),
    ],
)
def test_a_model_of_peers_has_the_longest_context_that_all_have_told(
    attic: int | None, barn: int | None, rack: int | None, room: int | None
) -> None:
    here, there = (
        Served(name=name, created=0, context_tokens=tokens)
        for name, tokens in (("tiny", 4096), ("phi", None))
    )
    peers = tuple(
        msgspec.structs.replace(peer(name, zone), context_tokens=tokens)
        for name, zone, tokens in (
            ("attic", "site", attic),
            ("barn", "site", barn),
            ("rack", "cloud", rack),
        )
    )
    told = with_contexts((here, there), peers, RULES)
    assert [each.context_tokens for each in told] == [4096, room]
    assert with_contexts((there,), (), RULES) == (there,)
