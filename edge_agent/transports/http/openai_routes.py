"""The routes under `/v1`: chat completions and the list of models, as OpenAI's clients expect."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from edge_agent.dialects.openai import parse_chat
from edge_agent.dialects.openai_answer import (
    Chunks,
    Head,
    completion_body,
    model_body,
)
from edge_agent.errors import ModelNotFound
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
from edge_agent.transports.http.streaming import server_sent_events

if TYPE_CHECKING:
    from aiohttp import web

    from edge_agent.messages import Events
    from edge_agent.ops.health import Served

_DEFAULT_TAG = ":latest"


def add_openai_routes(app: web.Application) -> None:
    """Put this dialect's routes into `app`."""
    app.router.add_post("/v1/chat/completions", _chat_completions)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{name:.+}", _model)


async def _chat_completions(http: web.Request) -> web.StreamResponse:
    body = await json_body(http)
    call = parse_chat(body, request_id=http[REQUEST_ID], limits=http.app[CONFIG].limits)
    request = as_sent(http, call.request)
    head = Head(
        id=f"chatcmpl-{http[REQUEST_ID]}",
        created=int(time.time()),
        model=request.model or http.app[HEALTH]().model,
    )
    async with aclosing(http.app[BACKEND].stream(request)) as events:
        if not request.stream:
            return await _whole(http, head, events)
        chunks = Chunks(head, include_usage=call.include_usage)
        return await server_sent_events(http, events, chunks.bodies)


async def _whole(http: web.Request, head: Head, events: Events) -> web.Response:
    outcome = fold([event async for event in events])
    if isinstance(outcome, Failed):
        return failure(http.path, outcome)
    note(http, outcome)
    return json_response(completion_body(head, outcome))


async def _models(http: web.Request) -> web.Response:
    cards = [_card(served) for served in http.app[HEALTH]().models]
    return json_response({"object": "list", "data": cards})


async def _model(http: web.Request) -> web.Response:
    name = http.match_info["name"]
    models = http.app[HEALTH]().models
    for served in models:
        if served.name == name.removesuffix(_DEFAULT_TAG):
            return json_response(_card(served))
    raise ModelNotFound(name, tuple(served.name for served in models))


def _card(served: Served) -> dict[str, object]:
    return model_body(served.name, created=served.created, context_tokens=served.context_tokens)
