"""Server-sent events: a stream of events as it goes over the wire, which always has an end.

The headers say who answers, and until they are out a refusal can be a status. So they go with the
first piece of the answer, or with the first comment line: while nothing happens, such lines keep
proxies and impatient clients from leaving. After that a failure is an error object in the stream.
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
from edge_agent.messages import Accepted, Done, Event, Events, Failed
from edge_agent.transports.http.app import CONFIG, REQUEST_ID
from edge_agent.transports.http.failures import failure
from edge_agent.transports.http.provenance import note

logger = logging.getLogger(__name__)

# A client that takes nothing for so long is gone, or will never catch up.
WRITE_LIMIT_S = 60.0

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would keep the events back
}
_PING = b": ping\n\n"

Beats = AsyncGenerator[Event | None, None]
Render = Callable[[Event], list[dict[str, Any]]]


async def server_sent_events(
    http: web.Request, events: Events, render: Render
) -> web.StreamResponse:
    """Send `events`, each as the JSON objects that `render` makes of it, or why there are none.

    Raises:
        ConnectionError: the client left, or takes nothing any more.
    """
    async with aclosing(beating(events, http.app[CONFIG].http.heartbeat_s)) as beats:
        accepted, first = await _opening(beats)
        if isinstance(first, Failed):
            return failure(http.path, first)
        if accepted is not None:
            note(http, accepted)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(http)
        await _write(http, response, _frames(render(accepted)) if accepted else b"")
        ended = await _send_all(http, response, first, beats, render)
    if not ended:
        await _write(http, response, _frames(render(Failed.of(Internal()))))
    await _write(http, response, f"data: {END_OF_STREAM}\n\n".encode())
    await response.write_eof()
    return response


async def _opening(beats: Beats) -> tuple[Accepted | None, Event | None]:
    """Return who answers, and what follows that; None for silence after it.

    Before anybody has accepted the request there is nothing to keep a client waiting with.
    """
    accepted: Accepted | None = None
    async for event in beats:
        if isinstance(event, Accepted):
            accepted = event
        elif event is not None or accepted is not None:
            return accepted, event
    return accepted, Failed.of(Internal())


async def _send_all(
    http: web.Request,
    response: web.StreamResponse,
    first: Event | None,
    beats: Beats,
    render: Render,
) -> bool:
    """Send `first` and the rest; return whether the answer came to its end."""
    ended = isinstance(first, Done)
    try:
        await _write(http, response, _PING if first is None else _frames(render(first)))
        async for event in beats:
            ended = isinstance(event, Done | Failed)
            await _write(http, response, _PING if event is None else _frames(render(event)))
    except ConnectionError:
        raise
    except Exception:
        # The headers are gone: all that is left to do is to end the stream as streams end.
        logger.exception("stream failed id=%s", http[REQUEST_ID])
    return ended


async def beating(events: Events, every_s: float) -> Beats:
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
