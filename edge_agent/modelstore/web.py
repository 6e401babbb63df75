"""Reads a part of a file from a web server: one request, with every failure told apart.

https only, also after redirects; plain http only from this very machine. Proxies are those of the
environment. Nothing but the bytes that were asked for is sent or kept: no cookies, no keys.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_agent import __version__
from edge_agent.errors import ModelError
from edge_agent.modelstore.retry import TRANSIENT_STATUS, asked_s

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

# A server that sends nothing for so long has forgotten us.
STALL_LIMIT_S = 30.0
_READ_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class TryAgain(Exception):
    """This request failed, another may not. `asked_s`: the pause the server asked for."""

    def __init__(self, problem: str, asked_s: float | None = None) -> None:
        super().__init__(problem)
        self.asked_s = asked_s


class Body:
    """The bytes of a file from `start` on, as a server sends them."""

    def __init__(self, url: str, response: http.client.HTTPResponse, start: int) -> None:
        self.start = start
        """Where the body begins: 0 if the server cannot send a part."""
        self._url = url
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Yield what arrives, as it arrives; raises TryAgain when the connection fails."""
        while True:
            try:
                data = self._response.read1(_READ_BYTES)
            except (OSError, http.client.HTTPException) as exc:
                raise TryAgain(_because(self._url, exc)) from exc
            if not data:
                return
            yield data

    def close(self) -> None:
        """End the connection; what was not read is not sent."""
        self._response.close()


def open_body(url: str, *, start: int, total_bytes: int) -> Body:
    """Ask for the file at `url`, of `total_bytes`, from byte `start` on. The caller closes it.

    Raises:
        TryAgain: no connection, or a status that passes.
        ModelError: there is no such file for us, or it has another size.
    """
    _check_scheme(url)
    headers = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme is checked
    try:
        response = _opener().open(request, timeout=STALL_LIMIT_S)
    except urllib.error.HTTPError as exc:
        with exc:
            raise _refusal(url, exc) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise _failure(url, exc) from exc
    try:
        return Body(url, response, _start(url, response, start, total_bytes))
    except BaseException:
        response.close()
        raise


def is_this_machine(url: str) -> bool:
    """Tell whether the host of `url` is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_scheme(url: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (scheme == "http" and is_this_machine(url)):
        msg = f"{url}: only https is read, or http from this machine itself"
        raise ModelError(msg)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # and not build_opener: no ftp:, file: or data:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, ten at most, to where we would have gone ourselves."""

    def redirect_request(  # the signature is urllib's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request."""
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _start(url: str, response: http.client.HTTPResponse, start: int, total_bytes: int) -> int:
    """Return where the body begins, once the server's sizes are those we expect."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            msg = f"{url}: asked for bytes from {start} on, the server sends others"
            raise TryAgain(msg)
        there_bytes, begins = int(found[3]), start
    else:
        length = response.headers.get("Content-Length", "")
        there_bytes, begins = int(length) if length.isdecimal() else total_bytes, 0
    if there_bytes != total_bytes:
        msg = f"{url} has {there_bytes} bytes, not {total_bytes}"
        raise ModelError(msg)
    return begins


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """Return what a status that is no success means."""
    if error.code in TRANSIENT_STATUS:
        wanted_s = asked_s(error.headers.get("Retry-After"), time.time())
        return TryAgain(f"{url}: status {error.code} {error.reason}", wanted_s)
    match error.code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            why = "the server wants an account or the acceptance of terms"
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            why = "there is no such file"
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            why = "the file is shorter than expected"
        case _:
            why = str(error.reason)
    return ModelError(f"{url}: {why} (status {error.code})")


def _failure(url: str, error: Exception) -> Exception:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(f"{url}: {reason.verify_message}: the certificate is not to be trusted")
    return TryAgain(_because(url, reason))


def _because(url: str, reason: object) -> str:
    """Return `reason` in words; some exceptions have none."""
    return f"no connection to {urlsplit(url).netloc} ({str(reason) or type(reason).__name__})"
