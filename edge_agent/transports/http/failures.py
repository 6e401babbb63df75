"""How a failure looks on HTTP: its status, what it tells a client about retrying, its body."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from edge_agent.dialects import openai_answer, slm

if TYPE_CHECKING:
    from edge_agent.messages import Failed

# nginx's number for a client that left; nobody reads it but the log.
CLIENT_CLOSED_REQUEST = 499
# The OpenAI client does not retry at all when it is told to wait longer than this.
LONGEST_RETRY_AFTER_S = 120

STATUS: dict[str, int] = {
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "unsupported": HTTPStatus.BAD_REQUEST,
    "context_length_exceeded": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "model_not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "insufficient_memory": HTTPStatus.BAD_REQUEST,
    "poison": HTTPStatus.UNPROCESSABLE_ENTITY,
    "header_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "cancelled": CLIENT_CLOSED_REQUEST,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "config": HTTPStatus.INTERNAL_SERVER_ERROR,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "peer_failed": HTTPStatus.BAD_GATEWAY,
    "peer_refused": HTTPStatus.BAD_REQUEST,
    "engine_crashed": HTTPStatus.SERVICE_UNAVAILABLE,
    "loading": HTTPStatus.SERVICE_UNAVAILABLE,
    "memory_pressure": HTTPStatus.SERVICE_UNAVAILABLE,
    "recalled": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_unusable": HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "deadline_exceeded": HTTPStatus.GATEWAY_TIMEOUT,
    "expired": HTTPStatus.GATEWAY_TIMEOUT,
}

# Statuses that clients retry by themselves, unless they are told not to.
_RETRIED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


def status_of(failed: Failed) -> int:
    """Return the status of `failed`; a code without one is a bug of ours."""
    return STATUS.get(failed.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def headers_of(failed: Failed) -> dict[str, str]:
    """Return the headers that tell a client why, and whether, when and how to come back."""
    status = status_of(failed)
    headers = {"X-Edge-Reason": failed.reason} if failed.reason else {}
    if failed.retryable and failed.retry_after_s is not None:
        wait_s = min(max(math.ceil(failed.retry_after_s), 1), LONGEST_RETRY_AFTER_S)
        headers["Retry-After"] = str(wait_s)
    if not failed.retryable and (status in _RETRIED or status >= CLIENT_CLOSED_REQUEST):
        headers["x-should-retry"] = "false"
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def failure(path: str, failed: Failed, headers: dict[str, str] | None = None) -> web.Response:
    """Return the response for `failed` in the dialect that `path` belongs to."""
    in_openai = path == "/v1" or path.startswith("/v1/")
    body = openai_answer.error_body(failed) if in_openai else slm.error_body(failed)
    return web.Response(
        body=msgspec.json.encode(body),
        status=status_of(failed),
        headers={**headers_of(failed), **(headers or {})},
        content_type="application/json",
        charset="utf-8",
    )
