"""One HTTP connection: aiohttp's own, with bounds on what a stranger may do before a request."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from edge_agent.errors import Internal
from edge_agent.messages import Failed
from edge_agent.transports.http.failures import failure

if TYPE_CHECKING:
    import asyncio

    from aiohttp.web_request import BaseRequest

logger = logging.getLogger(__name__)

# A request head is one packet; who needs longer is not sending a request.
FIRST_REQUEST_LIMIT_S = 20.0
# Idle clients keep their connection this long, as nginx does by default.
KEEPALIVE_S = 75.0
# A gateway serves a handful of clients; each connection may hold one body of the allowed size.
MOST_CONNECTIONS = 128
# Request line and each header; keys and cookies are far shorter.
MOST_LINE_BYTES = 8190
MOST_HEADERS = 64
# What a refused client still sends is read this long, so that it sees the refusal.
LINGER_S = 5.0


class Connection(web.RequestHandler):
    """A connection that is closed when no request comes, or when there are too many others."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # none: the router logs every request
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=MOST_LINE_BYTES,
            max_field_size=MOST_LINE_BYTES,
            max_headers=MOST_HEADERS,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self._server = server
        self._silence = loop.call_later(FIRST_REQUEST_LIMIT_S, self.force_close)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless there are too many connections already."""
        super().connection_made(transport)
        if len(self._server.connections) > MOST_CONNECTIONS:
            logger.warning("http connection refused reason=too_many limit=%d", MOST_CONNECTIONS)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End whatever the connection was doing."""
        self._silence.cancel()
        super().connection_lost(exc)

    def heard(self) -> None:
        """Take note that a whole request head came."""
        self._silence.cancel()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # repeats what the stranger sent
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP request; strangers must not be able to fill the log."""
        logger.debug("http request unreadable from=%s error=%r", request.remote, exc)
        if isinstance(exc, LineTooLong):
            code, sentence = "header_too_large", f"a header is over {MOST_LINE_BYTES} bytes"
        elif status == HTTPStatus.BAD_REQUEST:
            code, sentence = "invalid_request", "this is no HTTP request"
        else:
            code, sentence = "internal", str(Internal())
        response = failure("/v1", Failed(code=code, message=sentence, retryable=False))
        response.force_close()
        return response
