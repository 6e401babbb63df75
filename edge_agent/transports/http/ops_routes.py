"""The routes that tell about the daemon itself; they never wait for the model."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from edge_agent.dialects import slm
from edge_agent.ops.metrics import METRICS_TYPE
from edge_agent.transports.http.app import HEALTH, METRICS, has_key, json_response

if TYPE_CHECKING:
    from edge_agent.ops.health import Health

_ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "models": "/v1/models",
    "reasoning": "/reasoning",
    "health": "/health",
    "ready": "/ready",
    "metrics": "/metrics",
}


def add_ops_routes(app: web.Application) -> None:
    """Put these routes into `app`."""
    app.router.add_get("/", _root)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready)
    app.router.add_get("/metrics", _metrics)


async def _root(http: web.Request) -> web.Response:
    """Say what this is: to programs that ask for JSON in JSON, to people in a line."""
    if not http.headers.get("Accept", "").startswith("application/json"):
        # The line by which scripts and clients of Ollama know that the port is served.
        return web.Response(text="Ollama is running")
    body: dict[str, object] = {"name": "edge-agent"}
    if has_key(http):
        body["model"] = http.app[HEALTH]().model
        body["endpoints"] = _ENDPOINTS
        body["capabilities"] = slm.CAPABILITIES
    return json_response(body)


async def _health(http: web.Request) -> web.Response:
    """Say whether a request can be answered, here or by a peer: 200 when it can, else 503."""
    health = http.app[HEALTH]()
    body: dict[str, object] = {"status": "healthy" if health.answers else "model_not_loaded"}
    if has_key(http):
        body |= _details(health)
    return json_response(body, status=_status(bool(health.answers)))


async def _ready(http: web.Request) -> web.Response:
    """Say whether a request that comes now would be taken, and by whom; else why not."""
    health = http.app[HEALTH]()
    body: dict[str, object] = {"status": "ready" if health.ready else "unavailable"}
    if has_key(http):
        body |= {"by": health.ready, "reasons": health.obstacles}
    return json_response(body, status=_status(bool(health.ready)))


async def _metrics(http: web.Request) -> web.Response:
    """Tell everything that is counted, in Prometheus' text format."""
    text = http.app[METRICS]()
    return web.Response(body=text, headers={"Content-Type": METRICS_TYPE})


def _status(is_well: bool) -> HTTPStatus:  # noqa: FBT001  # it says itself
    return HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE


def _details(health: Health) -> dict[str, object]:
    details: dict[str, object] = msgspec.to_builtins(health)
    details["uptime_s"] = round(health.uptime_s, 1)
    details["models"] = [served.name for served in health.models]
    return {**details, "capabilities": slm.CAPABILITIES}
