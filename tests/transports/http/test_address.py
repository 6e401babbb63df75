"""Listen addresses as they are configured."""

from __future__ import annotations

import pytest

from edge_agent.errors import ConfigError
from edge_agent.transports.http.address import Address, is_loopback, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:11434", Address("localhost", 11434)),
        (":8080", Address("", 8080)),
    ],
)
def test_an_address_reads_and_writes_the_same(text: str, address: Address) -> None:
    assert parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8080", "127.0.0.1", "::1:8080", "host:99999", "a b:1", "[::1]", "http://x:1"]
)
def test_what_is_no_address_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.listen"):
        parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "128.0.0.1"])  # noqa: S104  # the point of the test
def test_anything_else_is_not(host: str) -> None:
    assert not is_loopback(host)
