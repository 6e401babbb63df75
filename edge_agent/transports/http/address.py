"""Listen addresses: `host:port` as configured, and which of them only this machine reaches."""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from edge_agent.errors import ConfigError

_FORM = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]/\s]*)):(?P<port>[0-9]{1,5})")
_LARGEST_PORT = 65535


class Address(Struct, frozen=True, order=True):
    """A host name or IP address and a TCP port; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse(text: str) -> Address:
    """Return the address that `text` names: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.

    An empty host, as in `:8080`, is every address of the machine.

    Raises:
        ConfigError: `text` is no such thing.
    """
    found = _FORM.fullmatch(text)
    if found is None or int(found["port"]) > _LARGEST_PORT:
        where = "http.listen"
        raise ConfigError(where, f"{text!r} is not host:port (IPv6 as [::1]:8080)")
    return Address(found["v6"] or found["host"] or "", int(found["port"]))


def is_loopback(host: str) -> bool:
    """Return whether the IP address `host` can be reached from this machine only."""
    ip = as_ip(host)
    return ip is not None and ip.is_loopback


def as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return `host` as an IP address, or `None` when it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
