"""Finds the addresses that a peer's name stands for, as far as they may be used."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Callable

# What getaddrinfo gives: family, type, protocol, canonical name, address.
_Found = tuple[int, int, int, str, Any]


class Names(AbstractResolver):
    """The resolver of one peer, with a thread of its own.

    A name server that does not answer holds a thread for many seconds: it shall hold up nobody but
    the peer whose name it does not know.
    """

    def __init__(
        self, *, on_site: bool, look_up: Callable[..., list[Any]] = socket.getaddrinfo
    ) -> None:
        """Make one; `on_site` leaves only addresses that are not public.

        Whoever can change the answers of a name server could else send prompts of the site
        anywhere. A peer of the site with a public address is configured by that address.
        """
        self._on_site = on_site
        self._look_up = look_up
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="peer-name")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`.

        Raises:
            OSError: there is none, or none that may be used.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._thread, self._look_up, host, port, family, socket.SOCK_STREAM
        )
        results = [_result(host, port, each) for each in found]
        if self._on_site:
            results = [result for result in results if not is_public(result["host"])]
        if not results:
            msg = f"{host} has no address that may be used"
            raise OSError(None, msg)
        return results

    async def close(self) -> None:
        """Wait for nobody: a name server may take its time."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def is_public(address: str) -> bool:
    """Tell whether `address` can be reached from anywhere, and so lies outside of a site."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global


def _result(host: str, port: int, found: _Found) -> ResolveResult:
    family, _, protocol, _, address = found
    # A link-local address means nothing without its interface, which only this call writes out.
    numeric, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return ResolveResult(
        hostname=host,
        host=numeric,
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST,
    )
