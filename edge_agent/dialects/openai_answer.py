"""The OpenAI chat dialect, writing side: events and answers become the objects clients expect."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge_agent import __version__
from edge_agent.dialects.openai_tokens import logprobs_body
from edge_agent.dialects.openai_tools import call_body
from edge_agent.dialects.usage import metrics_body, usage_body
from edge_agent.messages import Accepted, Answer, Delta, Done, Event, Failed, TokenLogprob, ToolCall

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
    "peer_refused": "invalid_request_error",
    "insufficient_memory": "invalid_request_error",
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
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [call_body(call) for call in answer.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs_body(answer.logprobs),
        "finish_reason": answer.done.finish_reason.value,
        "stop_reason": answer.done.stop,
    }
    return {
        **_envelope(head, "chat.completion"),
        "choices": [choice],
        "usage": usage_body(answer.done.usage),
        "metrics": metrics_body(answer.done),
        "edge": source_body(answer),
    }


def source_body(source: Accepted | Answer) -> dict[str, str]:
    """Return our own field `edge`: who answers, and why that one."""
    return {"served_by": source.served_by, "reason": source.reason}


class Chunks:
    """Renders the events of one answer as they come; calls are numbered over the answer.

    Who answers is told in the first chunk and in the last. When another takes over in between,
    which the headers cannot tell any more, a chunk without text says so.
    """

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._head = head
        self._include_usage = include_usage
        self._num_calls = 0
        self._source: dict[str, str] | None = None

    def bodies(self, event: Event) -> list[dict[str, Any]]:
        """Return the `chat.completion.chunk`s (or the error object) that tell of `event`."""
        match event:
            case Accepted():
                # A second role would be joined to the first, as clients join all that is text.
                delta = {} if self._source else {"role": "assistant", "content": ""}
                self._source = source_body(event)
                return [self._with_source(_chunk(self._head, delta))]
            case Delta():
                return [_chunk(self._head, {"content": event.text}, logprobs=event.logprobs)]
            case ToolCall():
                call = {"index": self._num_calls, **call_body(event)}
                self._num_calls += 1
                return [_chunk(self._head, {"tool_calls": [call]})]
            case Done():
                return self._end(event)
            case Failed():
                return [error_body(event)]

    def _end(self, done: Done) -> list[dict[str, Any]]:
        last = self._with_source(
            _chunk(self._head, {}, finish_reason=done.finish_reason.value, stop=done.stop)
        )
        # Clients take a chunk without choices for the one with numbers, and look for them.
        tells_usage = self._include_usage and done.usage.is_counted
        return [last, _usage_chunk(self._head, done)] if tells_usage else [last]

    def _with_source(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return {**chunk, "edge": self._source} if self._source else chunk


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


def model_body(name: str, *, created: int, context_tokens: int | None) -> dict[str, Any]:
    """Return a model card; `max_model_len` is in tokens, prompt and answer together, if known."""
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
    head: Head,
    delta: dict[str, Any],
    *,
    logprobs: tuple[TokenLogprob, ...] = (),
    finish_reason: str | None = None,
    stop: str | int | None = None,
) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "delta": delta,
        "logprobs": logprobs_body(logprobs),
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
