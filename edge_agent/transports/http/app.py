"""The aiohttp application: what its handlers share and the rules every request passes first."""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from edge_agent.config import Config
from edge_agent.errors import EdgeError, Forbidden, Internal, Unauthorized, Unsupported
from edge_agent.messages import Failed
from edge_agent.ops.health import LOCAL
from edge_agent.serving.router import Backend
from edge_agent.transports.http.failures import failure
from edge_agent.transports.http.origin import OriginRule
from edge_agent.transports.http.protocol import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler

    from edge_agent.ops.health import Health
    from edge_agent.transports.http.auth import ApiKeys

logger = logging.getLogger(__name__)

CONFIG = web.AppKey("config", Config)
BACKEND: web.AppKey[Backend] = web.AppKey("backend", Backend)
HEALTH: web.AppKey[Callable[[], Health]] = web.AppKey("health")
METRICS: web.AppKey[Callable[[], bytes]] = web.AppKey("metrics")
KEYS: web.AppKey[ApiKeys | None] = web.AppKey("keys")
ORIGINS = web.AppKey("origins", OriginRule)

REQUEST_ID = web.RequestKey("request_id", str)
SHOWN_ID = web.RequestKey("shown_id", str)
SERVED_BY = web.RequestKey("served_by", str)
REASON = web.RequestKey("reason", str)

# Paths that answer without a key; they tell no details to those who have none.
OPEN_PATHS = frozenset({"/", "/health", "/ready"})
# Paths that want keys of their own, and see to that themselves.
ADMIN_PATHS = frozenset({"/admin/load", "/admin/unload"})
# A client's id goes into logs and headers: plain, and short enough to leave room for ours.
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LOGGED_PATH_CHARS = 100

_FOREIGN_HOST = "this Host is not served here; see http.allowed_hosts"
_FOREIGN_PAGE = "requests from pages of this Origin are refused; see http.allowed_hosts"
# A small compressed body can inflate to any size.
_COMPRESSED = "compressed bodies are not offered"

_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    417: "unsupported",
}


def build_app(
    config: Config,
    backend: Backend,
    health: Callable[[], Health],
    metrics: Callable[[], bytes],
    keys: ApiKeys | None,
) -> web.Application:
    """Return the application without routes; `ORIGINS` is set once the addresses are bound."""
    app = web.Application(
        middlewares=[_identify, _translate, _guard], client_max_size=config.http.max_body_bytes
    )
    app[CONFIG] = config
    app[BACKEND] = backend
    app[HEALTH] = health
    app[METRICS] = metrics
    app[KEYS] = keys
    app.on_response_prepare.append(_sign)
    return app


def has_key(http: web.Request) -> bool:
    """Return whether the caller may see details: no keys are set, or it has one."""
    keys = http.app[KEYS]
    return keys is None or keys.accept(http.headers.get("Authorization"))


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request. A client's id is kept, but never alone: two clients may choose the same."""
    if isinstance(request.protocol, Connection):
        request.protocol.heard()
    own = uuid.uuid4().hex
    theirs = request.headers.get("X-Request-Id", "")
    sane = _SANE_ID.fullmatch(theirs) is not None
    request[SHOWN_ID] = theirs if sane else own
    request[REQUEST_ID] = f"{theirs}.{own[:12]}" if sane else own
    return await handler(request)


@web.middleware
async def _translate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a response of the right dialect."""
    try:
        return await handler(request)
    except EdgeError as exc:
        return _refuse(request, Failed.of(exc))
    except web.HTTPException as exc:
        return _refuse_http(request, exc)
    except ConnectionError:
        raise  # the client left; there is nobody to answer
    except Exception:
        logger.exception("request failed id=%s path=%s", request[REQUEST_ID], _shown_path(request))
        return _refuse(request, Failed.of(Internal()))


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse foreign hosts and pages, callers without a key, and bodies that would inflate."""
    hosts = request.headers.getall("Host", [])
    host = hosts[0] if hosts else None
    origins = request.app[ORIGINS]
    if len(hosts) > 1 or not origins.host_is_ours(host):
        raise Forbidden(_FOREIGN_HOST)
    if not origins.origin_is_ours(request.headers.get("Origin"), host):
        raise Forbidden(_FOREIGN_PAGE)
    if request.path not in OPEN_PATHS | ADMIN_PATHS and not has_key(request):
        raise Unauthorized
    if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise Unsupported(_COMPRESSED, "Content-Encoding")
    return await handler(request)


def json_response(body: dict[str, object], *, status: int = 200) -> web.Response:
    """Return `body` as a response."""
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
    )


async def _sign(http: web.Request, response: web.StreamResponse) -> None:
    """Put on every answer whose it is."""
    response.headers["X-Request-Id"] = http.get(SHOWN_ID, "")
    response.headers["X-Edge-Served-By"] = http.get(SERVED_BY, LOCAL)
    if REASON in http:
        response.headers["X-Edge-Reason"] = http[REASON]
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "edge-agent"


def _refuse(
    http: web.Request, failed: Failed, headers: dict[str, str] | None = None
) -> web.Response:
    """Return the response for `failed` and leave one line in the log."""
    response = failure(http.path, failed, headers)
    logger.info(
        "http refused id=%s status=%d code=%s method=%s path=%s",
        http[REQUEST_ID],
        response.status,
        failed.code,
        http.method[:16],
        _shown_path(http),
    )
    return response


def _refuse_http(http: web.Request, exc: web.HTTPException) -> web.Response:
    code = _HTTP_CODES.get(exc.status, "internal")
    sentences = {
        "not_found": f"there is nothing at {_shown_path(http)}",
        "method_not_allowed": f"{http.method[:16]} is not offered at {_shown_path(http)}",
        "request_timeout": "the body did not arrive in time",
        "too_large": f"the body is over {http.app[CONFIG].http.max_body_bytes} bytes",
        "unsupported": "this Expect is not offered",
    }
    headers = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
    failed = Failed(code=code, message=sentences.get(code, exc.reason), retryable=False)
    return _refuse(http, failed, headers)


def _shown_path(http: web.Request) -> str:
    """Return the path as it may stand in a log line: short, without spaces or line breaks."""
    return http.rel_url.raw_path[:_LOGGED_PATH_CHARS]
