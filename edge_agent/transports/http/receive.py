"""Bodies from the network: whole, within the size limit, and in time."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from edge_agent.dialects.body import decode
from edge_agent.errors import TooLarge
from edge_agent.transports.http.app import CONFIG

# A megabyte in this time is 17 kB/s, slower than any link a prompt comes over.
BODY_LIMIT_S = 60.0
# The worst megabyte of JSON takes half a second to check; everybody else would wait for it.
LARGEST_ON_LOOP_BYTES = 32 << 10


async def json_body(http: web.Request) -> dict[str, Any]:
    """Return the JSON object in the body of `http`.

    Raises:
        InvalidRequest: it is no JSON object within the limits.
        TooLarge: it is over the size limit.
        web.HTTPRequestTimeout: it did not arrive in time.
    """
    config = http.app[CONFIG]
    most_bytes = config.http.max_body_bytes
    if (http.content_length or 0) > most_bytes:
        raise TooLarge("body", http.content_length or 0, most_bytes)  # noqa: EM101  # a field
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            raw = await http.read()
    except TimeoutError as exc:
        raise web.HTTPRequestTimeout from exc
    if len(raw) <= LARGEST_ON_LOOP_BYTES:
        return decode(raw, config.limits)
    return await asyncio.to_thread(decode, raw, config.limits)
