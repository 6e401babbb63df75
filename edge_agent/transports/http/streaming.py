"""Server-sent events: a stream of events as it goes over the wire, which always has an end.

The refusals are over when this begins: the status is 200, so a failure is an error object in the
stream. While nothing happens, comment lines keep proxies and impatient clients from leaving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import msgspec
from aiohttp import web

from edge_agent.dialects.openai_answer import END_OF_STREAM
from edge_agent.errors import Internal
from edge_agent.messages import Done, Event, Events, Failed
from edge_agent.transports.http.app import CONFIG, REQUEST_ID

logger = logging.getLogger(__name__)

# A client that takes nothing for so long is gone, or will never catch up.
WRITE_LIMIT_S = 60.0

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would keep the events back
}
_PING = b": ping\n\n"

Render = Callable[[Event], list[dict[str, Any]]]


async def server_sent_events(
    http: web.Request, first: Event, events: Events, render: Render
) -> web.StreamResponse:
    """Send `first` and the rest of `events`, each as the JSON objects that `render` makes of it.

    Raises:
        ConnectionError: the client left, or takes nothing any more.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(http)
    await _write(http, response, _frames(render(first)))
    ended = False
    try:
        async with aclosing(beating(events, http.app[CONFIG].http.heartbeat_s)) as beats:
            async for event in beats:
                ended = isinstance(event, Done | Failed)
                await _write(http, response, _PING if event is None else _frames(render(event)))
    except ConnectionError:
        raise
    except Exception:
        # The headers are gone: all that is left to do is to end the stream as streams end.
        logger.exception("stream failed id=%s", http[REQUEST_ID])
    if not ended:
        await _write(http, response, _frames(render(Failed.of(Internal()))))
    await _write(http, response, f"data: {END_OF_STREAM}\n\n".encode())
    await response.write_eof()
    return response


async def beating(events: Events, every_s: float) -> AsyncGenerator[Event | None, None]:
    """Yield `events`, and `None` whenever none came for `every_s` seconds."""
    waiting: asyncio.Task[Event | None] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.create_task(_next(events), name="next event")
            done, _ = await asyncio.wait({waiting}, timeout=every_s)
            if not done:
                yield None
                continue
            event = waiting.result()
            waiting = None
            if event is None:
                return
            yield event
    finally:
        if waiting is not None:
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting


async def _next(events: Events) -> Event | None:
    return await anext(events, None)


def _frames(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(body) + b"\n\n" for body in bodies)


async def _write(http: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send `data`, waiting while the client reads slowly, but not for ever."""
    try:
        async with asyncio.timeout(WRITE_LIMIT_S):
            await response.write(data)
    except TimeoutError:
        if http.transport is not None:
            http.transport.abort()
        raise ConnectionResetError from None
