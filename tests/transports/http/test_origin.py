"""Which names are ours, for a browser that a stranger's page may steer."""

from __future__ import annotations

import pytest

from edge_agent.transports.http.origin import OriginRule

RULE = OriginRule(
    own_hosts=frozenset({"gw1", "192.168.1.5"}), allowed_hosts=frozenset({"Edge.Example.org"})
)


@pytest.mark.parametrize(
    "host",
    [None, "localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "192.168.7.7", "GW1:80",
     "gw1.local", "gw1.local.", "app.localhost", "edge.example.org:8080"],
)  # fmt: skip
def test_our_names_and_every_ip_address_are_served(host: str | None) -> None:
    assert RULE.host_is_ours(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "gw1@evil",
     "gw1:80:80", "xlocal", "[::1", "edge.example.org.evil.example"],
)  # fmt: skip
def test_a_name_of_a_stranger_is_not(host: str) -> None:
    assert not RULE.host_is_ours(host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost"),
        ("http://localhost:3000", "localhost:8080"),
        ("http://127.0.0.1:3000", "localhost:8080"),
        ("http://192.168.7.7:8080", "192.168.7.7:8080"),
        ("https://edge.example.org", "localhost"),
    ],
)
def test_our_own_pages_may_ask(origin: str | None, host: str) -> None:
    assert RULE.origin_is_ours(origin, host)


@pytest.mark.parametrize(
    "origin",
    ["null", "", "https://evil.example", "http://8.8.8.8", "file://", "http://[", "gw1",
     "ftp://gw1", "http://localhost.evil.example", "http://gw1/path"],
)  # fmt: skip
def test_pages_of_strangers_may_not(origin: str) -> None:
    assert not RULE.origin_is_ours(origin, "localhost:8080")
