"""The OpenAI chat dialect, writing side: events and answers become the objects clients expect."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge_agent import __version__
from edge_agent.dialects.usage import metrics_body, usage_body
from edge_agent.messages import Accepted, Answer, Delta, Done, Event, Failed

SYSTEM_FINGERPRINT = f"edge-agent-{__version__}"
# What follows the last chunk of a stream; clients stop reading here.
END_OF_STREAM = "[DONE]"

# The `type` of an error that is neither the caller's mistake nor ours is `api_error`.
_ERROR_TYPES = {
    "invalid_request": "invalid_request_error",
    "unsupported": "invalid_request_error",
    "context_length_exceeded": "invalid_request_error",
    "too_large": "invalid_request_error",
    "idempotency_conflict": "invalid_request_error",
    "header_too_large": "invalid_request_error",
    "method_not_allowed": "invalid_request_error",
    "request_timeout": "invalid_request_error",
    "poison": "invalid_request_error",
    "unauthorized": "authentication_error",
    "forbidden": "permission_error",
    "model_not_found": "not_found_error",
    "not_found": "not_found_error",
}


class Head(Struct, frozen=True, kw_only=True):
    """What every object of one answer repeats; `created` is in seconds since the epoch."""

    id: str
    created: int
    model: str


def completion_body(head: Head, answer: Answer) -> dict[str, Any]:
    """Return a whole answer as a `chat.completion`."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": None,
        "finish_reason": answer.done.finish_reason.value,
        "stop_reason": answer.done.stop,
    }
    return {
        **_envelope(head, "chat.completion"),
        "choices": [choice],
        "usage": usage_body(answer.done.usage),
        "metrics": metrics_body(answer.done),
    }


def chunk_bodies(head: Head, event: Event, *, include_usage: bool) -> list[dict[str, Any]]:
    """Return the `chat.completion.chunk`s (or the error object) that tell of `event`."""
    match event:
        case Accepted():
            return [_chunk(head, {"role": "assistant", "content": ""})]
        case Delta():
            return [_chunk(head, {"content": event.text})]
        case Done():
            last = _chunk(head, {}, finish_reason=event.finish_reason.value, stop=event.stop)
            return [last, _usage_chunk(head, event)] if include_usage else [last]
        case Failed():
            return [error_body(event)]


def error_body(failed: Failed) -> dict[str, Any]:
    """Return the error object of `failed`."""
    return {
        "error": {
            "message": failed.message,
            "type": _ERROR_TYPES.get(failed.code, "api_error"),
            "param": failed.param,
            "code": failed.code,
        }
    }


def model_body(name: str, *, created: int, context_tokens: int) -> dict[str, Any]:
    """Return a model card; `max_model_len` is in tokens, prompt and answer together."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "edge-agent",
        "root": name,
        "parent": None,
        "max_model_len": context_tokens,
    }


def _envelope(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "system_fingerprint": SYSTEM_FINGERPRINT,
    }


def _chunk(
    head: Head, delta: dict[str, str], *, finish_reason: str | None = None, stop: str | None = None
) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    if finish_reason is not None:
        choice["stop_reason"] = stop
    return {**_envelope(head, "chat.completion.chunk"), "choices": [choice]}


def _usage_chunk(head: Head, done: Done) -> dict[str, Any]:
    return {
        **_envelope(head, "chat.completion.chunk"),
        "choices": [],
        "usage": usage_body(done.usage),
        "metrics": metrics_body(done),
    }
