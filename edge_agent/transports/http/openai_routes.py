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
from edge_agent.messages import Accepted, Failed, fold
from edge_agent.transports.http.app import (
    BACKEND,
    CONFIG,
    HEALTH,
    REQUEST_ID,
    SERVED_BY,
    json_response,
)
from edge_agent.transports.http.failures import failure
from edge_agent.transports.http.receive import json_body
from edge_agent.transports.http.streaming import server_sent_events

if TYPE_CHECKING:
    from aiohttp import web

    from edge_agent.messages import Event, Events
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
    head = Head(
        id=f"chatcmpl-{http[REQUEST_ID]}",
        created=int(time.time()),
        model=call.request.model or http.app[HEALTH]().model,
    )
    async with aclosing(http.app[BACKEND].stream(call.request)) as events:
        # Until the first event everything can still be refused with a status.
        first = await anext(events)
        if isinstance(first, Failed):
            return failure(http.path, first)
        if isinstance(first, Accepted):
            http[SERVED_BY] = first.served_by
        if not call.request.stream:
            return await _whole(http, head, first, events)
        chunks = Chunks(head, include_usage=call.include_usage)
        return await server_sent_events(http, first, events, chunks.bodies)


async def _whole(http: web.Request, head: Head, first: Event, events: Events) -> web.Response:
    outcome = fold([first, *[event async for event in events]])
    if isinstance(outcome, Failed):
        return failure(http.path, outcome)
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
