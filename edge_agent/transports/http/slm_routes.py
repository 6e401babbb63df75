"""The route `/reasoning`: one prompt in, one text out."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from edge_agent.dialects import slm
from edge_agent.errors import Unsupported
from edge_agent.messages import Failed, fold
from edge_agent.transports.http.app import (
    BACKEND,
    CONFIG,
    HEALTH,
    REQUEST_ID,
    json_response,
)
from edge_agent.transports.http.failures import failure
from edge_agent.transports.http.provenance import as_sent, note
from edge_agent.transports.http.receive import json_body

if TYPE_CHECKING:
    from aiohttp import web


def add_slm_routes(app: web.Application) -> None:
    """Put this dialect's route into `app`."""
    app.router.add_post("/reasoning", _reasoning)


async def _reasoning(http: web.Request) -> web.Response:
    started_s = time.monotonic()
    body = await json_body(http)
    request = slm.parse_reasoning(body, request_id=http[REQUEST_ID], limits=http.app[CONFIG].limits)
    if request.stream:
        problem = "is not offered here; POST /v1/chat/completions streams"
        raise Unsupported(problem, param="stream")
    async with aclosing(http.app[BACKEND].stream(as_sent(http, request))) as events:
        outcome = fold([event async for event in events])
    if isinstance(outcome, Failed):
        return failure(http.path, outcome)
    note(http, outcome)
    return json_response(
        slm.answer_body(
            outcome,
            request_id=http[REQUEST_ID],
            task=slm.task_type(body),
            model=request.model or http.app[HEALTH]().model,
            inference_s=time.monotonic() - started_s,
        )
    )
