"""Which names a browser may use to reach us: the guard against DNS rebinding and foreign pages.

A page of a stranger can make a browser send requests to this machine. Two things give it away:
the name it used (`Host`), which rebinding cannot hide, and the page it came from (`Origin`).
"""

from __future__ import annotations

import re

from edge_agent.transports.http.address import as_ip, is_loopback

# Names that public DNS never answers for, so no stranger's page can own them.
_LOCAL_SUFFIXES = (".localhost", ".local")
_HOST_FORM = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


class OriginRule:
    """The names and addresses that are us."""

    def __init__(self, *, own_hosts: frozenset[str], allowed_hosts: frozenset[str]) -> None:
        self._names = {name.lower() for name in own_hosts | allowed_hosts}

    def host_is_ours(self, host_header: str | None) -> bool:
        """Return whether a `Host` header names this machine; old clients send none.

        Any IP address will do: rebinding needs a name.
        """
        if host_header is None:
            return True
        host = _host(host_header)
        return host is not None and (as_ip(host) is not None or self._is_known(host))

    def origin_is_ours(self, origin: str | None, host_header: str | None) -> bool:
        """Return whether the page a request comes from, if any, was served by this machine."""
        if origin is None:
            return True
        scheme, _, netloc = origin.partition("://")
        host = _host(netloc)
        if host is None or scheme not in ("http", "https"):
            return False
        same = host_header is not None and netloc.lower() == host_header.lower()
        return same or is_loopback(host) or self._is_known(host)

    def _is_known(self, host: str) -> bool:
        return host == "localhost" or host in self._names or host.endswith(_LOCAL_SUFFIXES)


def _host(netloc: str) -> str | None:
    """Return the host of `host[:port]` in lower case, without brackets and final dot."""
    found = _HOST_FORM.fullmatch(netloc)
    return found["host"].strip("[]").rstrip(".").lower() if found else None
