"""What `doctor` says of peers, and of who answers when the model here cannot."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from edge_agent.cli import doctor_peers
from edge_agent.config import Config
from edge_agent.ops.health import PeerHealth

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def settings(port: int = 9, **more: Any) -> Config:
    peers: list[dict[str, object]] = [
        {"name": "rack", "kind": "openai", "zone": "cloud"},
        {"name": "attic", "kind": "ollama", "zone": "site"},
        {"name": "barn", "kind": "openai", "zone": "site", "priority": 5},
    ]
    for peer in peers:
        peer |= {"url": f"http://127.0.0.1:{port}", "model": "phi"}
    return msgspec.convert({"model": "here", "peers": peers, **more}, Config)


def seen(**problems: str | None) -> tuple[PeerHealth, ...]:
    return tuple(
        PeerHealth(
            name=peer.name,
            kind=peer.kind,
            zone=peer.zone,
            model=peer.model,
            breaker="closed",
            running=0,
            problem=problems.get(peer.name),
        )
        for peer in settings().peers
    )


def test_peers_that_are_away_are_named(closed_port: int) -> None:
    found = {peer.name: peer.problem for peer in doctor_peers.probe(settings(closed_port))}
    assert found["attic"] is not None
    assert found["barn"] is not None
    assert found["rack"] is None  # not asked: it is no peer of the site


def test_without_peers_nobody_is_asked() -> None:
    assert doctor_peers.probe(Config()) == ()


def test_helpers_are_those_that_answer_and_may_be_asked_the_first_first() -> None:
    assert doctor_peers.helpers(settings(), seen()) == ("barn", "attic")
    assert doctor_peers.helpers(settings(), seen(barn="is away")) == ("attic",)
    anywhere = settings(routing={"policy": "any"})
    assert doctor_peers.helpers(anywhere, seen()) == ("barn", "rack", "attic")
    assert doctor_peers.helpers(settings(routing={"fallback": "never"}), seen()) == ()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, "requests go to here here; without memory, model or time for it"),
        ({"routing": {"fallback": "never"}}, "every request goes to here here"),
        ({"routing": {"policy": "local"}}, "every request goes to here here"),
        ({"routing": {"fallback": "prefer-peer"}}, "requests go to barn, then attic, then here"),
        ({"model": None}, "every request goes to barn, then attic"),
    ],
)
def test_the_last_line_says_what_falls_back_to_what(more: dict[str, Any], sentence: str) -> None:
    *each, order = doctor_peers.lines(settings(**more), seen())
    assert order.startswith(sentence)
    assert len(each) == 3


def test_a_peer_that_prompts_do_not_reach_is_said_so() -> None:
    lines = list(doctor_peers.lines(settings(), seen(attic="refuses the connection")))
    assert "not asked" in lines[0]
    assert lines[1] == "attic (ollama, site, phi): refuses the connection"
    assert lines[2].endswith("answers")
