"""Names of peers lead to where peers of their zone can be, and hold up nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.serving.peers.names import Names, is_public

if TYPE_CHECKING:
    from collections.abc import Callable


def found(*addresses: str) -> Callable[..., list[Any]]:
    """Return a look-up that finds `addresses` for every name."""

    def look_up(_: str, port: int, *__: object) -> list[Any]:
        return [
            each
            for address in addresses
            for each in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        ]

    return look_up


async def hosts(*addresses: str, on_site: bool) -> list[str]:
    names = Names(on_site=on_site, look_up=found(*addresses))
    try:
        return [each["host"] for each in await names.resolve("attic.example", 80)]
    finally:
        await names.close()


PUBLIC = ("8.8.8.8", "2001:4860:4860::8888")
NEAR = ("192.168.1.7", "fd00::7")


async def test_a_peer_of_the_site_has_the_addresses_of_the_site() -> None:
    assert await hosts(*PUBLIC, *NEAR, on_site=True) == list(NEAR)


async def test_a_peer_elsewhere_may_be_anywhere() -> None:
    assert await hosts(*PUBLIC, *NEAR, on_site=False) == [*PUBLIC, *NEAR]


@pytest.mark.parametrize("addresses", [(), PUBLIC])
async def test_no_address_is_an_error(addresses: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match="has no address that may be used"):
        await hosts(*addresses, on_site=True)


async def test_a_name_that_is_not_known_is_an_error() -> None:
    def unknown(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    names = Names(on_site=True, look_up=unknown)
    with pytest.raises(OSError, match="not known"):
        await names.resolve("attic.example", 80)
    await names.close()


async def test_a_silent_name_server_holds_up_no_other_thread() -> None:
    answered = threading.Event()

    def slow(*_: object) -> list[Any]:
        answered.wait()
        return []

    names = Names(on_site=True, look_up=slow)
    waiting = [asyncio.create_task(names.resolve("attic.example", 80)) for _ in range(50)]
    try:
        assert await asyncio.to_thread(lambda: "done") == "done"
        await names.close()
    finally:
        answered.set()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("address", "is_off_site"),
    [
        ("10.1.2.3", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.1.2.3", False),
        ("::ffff:8.8.8.8", True),
        ("1.1.1.1", True),
        ("2606:4700::1", True),
    ],
)
def test_public_addresses(address: str, is_off_site: bool) -> None:
    assert is_public(address) is is_off_site
