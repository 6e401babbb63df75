"""The one place that opens connections to peers, and so the one that keeps prompts at home.

Whatever asks a peer asks here, and says how far its prompt may travel. No proxies, no redirects,
no cookies, no compression: a key and a prompt go to the address that is configured, or nowhere.
"""

from __future__ import annotations

import errno
import os
import ssl
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from edge_agent import __version__
from edge_agent.errors import Forbidden
from edge_agent.messages import Policy
from edge_agent.serving.peers.names import Names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.config import Peer

# Nobody's headers are longer; what is, is an attack or a bug.
_MOST_HEADER_BYTES = 8190
_MOST_HEADERS = 64
_READ_BYTES = 1 << 16
# A list of models, or the reason of a refusal.
MOST_BODY_BYTES = 1 << 20

_ZONES = {
    Policy.LOCAL: frozenset[str](),
    Policy.SITE: frozenset({"site"}),
    Policy.ANY: frozenset({"site", "cloud"}),
}


class NoConnection(Exception):
    """The peer cannot be reached; it has not seen the request."""


class Broken(Exception):
    """The connection ended, or does not speak HTTP; the peer may have seen the request."""


def may_go(policy: Policy, zone: str) -> bool:
    """Return whether a prompt under `policy` may reach a peer in `zone`."""
    return zone in _ZONES[policy]


class Reply:
    """The answer of a peer while it comes in. Whoever got it closes it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.media_type = response.content_type
        self.retry_after = response.headers.get("Retry-After")

    async def read_some(self) -> bytes:
        """Return the next bytes of the body; none at its end.

        Raises:
            Broken: the connection ended before the body did.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as exc:
            raise Broken(_cause(exc)) from exc

    async def read_all(self) -> bytes:
        """Return the whole body.

        Raises:
            Broken: as above, or the body is longer than `MOST_BODY_BYTES`.
        """
        body = bytearray()
        while data := await self.read_some():
            body += data
            if len(body) > MOST_BODY_BYTES:
                msg = f"its body is longer than {MOST_BODY_BYTES} bytes"
                raise Broken(msg)
        return bytes(body)

    def close(self) -> None:
        """End the connection; the peer notices and stops."""
        self._response.close()


class Door:
    """The way to one peer."""

    def __init__(self, peer: Peer, key: str | None) -> None:
        self._peer = peer
        self._base = peer.url.rstrip("/")
        self._headers = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session: aiohttp.ClientSession | None = None
        self._names: Names | None = None

    async def get(self, path: str, *, policy: Policy) -> Reply:
        """Ask for `path`. Raises as `post` does."""
        return await self._knock("GET", path, policy, {}, None)

    async def post(
        self, path: str, body: object, *, policy: Policy, headers: Mapping[str, str]
    ) -> Reply:
        """Send `body` as JSON to `path`; return the reply once its headers are here.

        Raises:
            Forbidden: a prompt under `policy` must not reach this peer. Nothing was sent.
            NoConnection: the peer cannot be reached. Nothing was sent.
            Broken: the connection ended without a reply.
        """
        headers = {**headers, "Content-Type": "application/json"}
        return await self._knock("POST", path, policy, headers, msgspec.json.encode(body))

    async def close(self) -> None:
        """End all connections."""
        if self._session:
            await self._session.close()
            self._session = None
        if self._names:
            await self._names.close()  # the session closes only what it made
            self._names = None

    async def _knock(
        self,
        method: str,
        path: str,
        policy: Policy,
        headers: Mapping[str, str],
        data: bytes | None,
    ) -> Reply:
        if not may_go(policy, self._peer.zone):
            problem = (
                f"a prompt of policy {policy.value!r} must not reach peer {self._peer.name!r} "
                f"(zone {self._peer.zone})"
            )
            raise Forbidden(problem)
        self._session = self._session or self._make_session()
        try:
            response = await self._session.request(
                method,
                self._base + path,
                data=data,
                headers=headers,
                allow_redirects=False,
            )
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            ssl.SSLError,
        ) as exc:
            raise NoConnection(_cause(exc)) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise Broken(_cause(exc)) from exc
        return Reply(response)

    def _make_session(self) -> aiohttp.ClientSession:
        """Return a session; made here, as it belongs to the loop that runs."""
        self._names = Names(on_site=self._peer.zone == "site")
        connect_s = self._peer.connect_timeout_s
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # A connection that was kept may be dead by the time it is needed, which would be
                # a failure that tells nothing; making one costs nothing beside an answer.
                force_close=True,
                limit=0,  # how many is decided before we come here
                use_dns_cache=False,
                resolver=self._names,
                ssl=True,  # verified by the certificates that the system trusts
            ),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=1e9),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
            max_headers=_MOST_HEADERS,
        )


# The first that fits holds.
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "no answer to the attempt to connect"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not to be trusted"),
    (aiohttp.ClientSSLError, "no TLS connection"),
    (aiohttp.ClientConnectorDNSError, "its name has no address that may be used"),
    (aiohttp.ClientPayloadError, "it ended the connection in the middle"),
    (aiohttp.ServerDisconnectedError, "it ended the connection"),
    (ConnectionResetError, "it ended the connection"),
)


def _cause(error: Exception) -> str:
    """Return what went wrong with a connection, in words without its address."""
    words = next((words for kind, words in _CAUSES if isinstance(error, kind)), None)
    if words is None and isinstance(error, aiohttp.ClientConnectorError):
        words = os.strerror(error.os_error.errno or errno.ENOTCONN).lower()
    return words or "what it sends is not HTTP"
