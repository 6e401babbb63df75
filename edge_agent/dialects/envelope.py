"""Message bodies of the request/reply wire (MQTT), both ways.

In: an OpenAI chat body, a `/reasoning` body, or plain text, with a few fields around it. Out: one
JSON object per message, told apart by `type`: accepted, delta, result, error.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.dialects import body, openai, slm
from edge_agent.dialects.openai_tokens import logprobs_body
from edge_agent.dialects.openai_tools import call_body
from edge_agent.dialects.usage import usage_body
from edge_agent.errors import InvalidRequest
from edge_agent.messages import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.config import Limits
    from edge_agent.messages import Answer, Request

CONTENT_TYPE = "application/json"
# An id is the last level of a reply topic, so it holds no wildcard, no level, no space.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=@~-]*")
_PROPERTIES = ("id", "stream", "deadline_s", "reply_to", "policy", "priority", "keep_alive")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A request and what stands around it: enough to answer it, even if only with an error."""

    id: str | None = None
    """The client's own; None if it gave none (that can be used)."""
    reply_to: str | None = None
    content: dict[str, Any] = field(default_factory=dict)
    """The request itself, not yet read field by field."""
    problem: InvalidRequest | None = None

    def request(self, *, request_id: str, limits: Limits) -> Request:
        """Return what the content asks for.

        Raises:
            InvalidRequest: a field is missing, mistyped or out of range; `param` names it.
        """
        if self.problem:
            raise self.problem
        if "messages" in self.content:
            call = openai.parse_chat(self.content, request_id=request_id, limits=limits)
            return call.request
        if "prompt" in self.content:
            return slm.parse_reasoning(self.content, request_id=request_id, limits=limits)
        raise InvalidRequest("is required (or prompt)", "messages")


def open_envelope(
    payload: bytes,
    limits: Limits,
    *,
    properties: Sequence[tuple[str, str]] = (),
    is_json: bool = False,
) -> Envelope:
    """Return the envelope in `payload`; `properties` fill in what the body does not say.

    A payload that starts with `{`, or is declared as JSON, is JSON; any other is the prompt itself.
    Never raises: what cannot be read is the envelope's `problem`.
    """
    content: dict[str, Any] = {}
    problem: InvalidRequest | None = None
    try:
        content = _content(payload, limits, is_json=is_json)
    except InvalidRequest as exc:
        problem = exc
    for name, text in properties:
        try:
            _fill_in(content, name, text)
        except InvalidRequest as exc:
            problem = problem or exc
    return _addressed(content, limits, problem)


def _content(payload: bytes, limits: Limits, *, is_json: bool) -> dict[str, Any]:
    if is_json or payload.lstrip()[:1] == b"{":
        content = body.decode(payload, limits)
        return {name: value for name, value in content.items() if value is not None}
    try:
        prompt = payload.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the payload is not UTF-8 at byte {exc.start}") from exc
    if not prompt.strip():
        raise InvalidRequest("the payload is empty; expected JSON or a prompt")
    return {"messages": [{"role": "user", "content": prompt}]}


def _fill_in(content: dict[str, Any], name: str, text: str) -> None:
    """Take a property for a field of the envelope, typed as in JSON, if the body has none."""
    if name not in _PROPERTIES or name in content:
        return
    content[name] = text
    if name == "stream":
        if text not in {"true", "false"}:
            raise InvalidRequest("must be true or false", name)
        content[name] = text == "true"
    if name == "deadline_s":
        try:
            content[name] = float(text)
        except ValueError:
            raise InvalidRequest("expected a number", name) from None
    if name == "keep_alive":
        # Seconds, else a duration such as "5m", which is read like one of the body.
        with suppress(ValueError):
            content[name] = float(text)


def _addressed(content: dict[str, Any], limits: Limits, problem: InvalidRequest | None) -> Envelope:
    """Read the address first, so that a bad request can be told so where it asks to be."""
    fields = body.Fields(content)
    reply_to = id_ = None
    try:
        reply_to = fields.text("reply_to")
        id_ = _checked(fields.text("id", most_chars=limits.max_id_chars))
    except InvalidRequest as exc:
        problem = problem or exc
    return Envelope(id=id_, reply_to=reply_to, content=content, problem=problem)


def _checked(id_: str | None) -> str | None:
    if id_ is not None and not _ID.fullmatch(id_):
        raise InvalidRequest("only letters, digits and . _ : = @ ~ - (not in front)", "id")
    return id_


def cancelled_id(payload: bytes, limits: Limits) -> str | None:
    """Return the id that a cancel message names; None if it names none.

    Raises:
        InvalidRequest: it is neither empty, nor JSON with an id, nor an id as plain text.
    """
    if not payload.strip():
        return None
    is_json = payload.lstrip()[:1] == b"{"
    text = payload.strip().decode("utf-8", "replace")
    fields = body.Fields(body.decode(payload, limits) if is_json else {"id": text})
    return _checked(fields.text("id", most_chars=limits.max_id_chars))


def accepted(request_id: str, *, attempt: int, position: int, eta_s: float | None) -> bytes:
    """Return the message that a request is on disk; `position` requests are before it.

    `eta_s` is when it will be begun, in seconds; None if that cannot be told.
    """
    message = {"type": "accepted", "id": request_id, "attempt": attempt, "pos": position}
    return _encode(message if eta_s is None else {**message, "eta_s": round(eta_s, 1)})


def delta(request_id: str, *, seq: int, attempt: int, text: str) -> bytes:
    """Return a piece of the answer; `seq` counts from 0 in each attempt."""
    return _encode(
        {"type": "delta", "id": request_id, "seq": seq, "attempt": attempt, "text": text}
    )


def result(request_id: str, *, seq: int, attempt: int, model: str, answer: Answer) -> bytes:
    """Return the whole answer; `seq` is the number of deltas before it.

    Log-probabilities are told here only: deltas may be joined on their way, or get lost.
    """
    done = answer.done
    message: dict[str, Any] = {
        "type": "result",
        "id": request_id,
        "seq": seq,
        "attempt": attempt,
        "text": answer.text,
        "finish_reason": done.finish_reason,
        "model": model,
        "served_by": answer.served_by,
        "reason": answer.reason,
        "usage": usage_body(done.usage),
        "timings": done.timings,
    }
    if answer.tool_calls:
        message["tool_calls"] = [call_body(call) for call in answer.tool_calls]
    if answer.logprobs:
        message["logprobs"] = logprobs_body(answer.logprobs)
    return _encode(message)


def error(request_id: str, *, seq: int, attempt: int, failed: Failed) -> bytes:
    """Return why there is no answer, and whether asking again may help."""
    message: dict[str, Any] = {
        "type": "error",
        "id": request_id,
        "seq": seq,
        "attempt": attempt,
        "code": failed.code,
        "message": failed.message,
        "retryable": failed.retryable,
    }
    if failed.retry_after_s is not None:
        message["retry_after_ms"] = round(failed.retry_after_s * 1000)
    if failed.param is not None:
        message["param"] = failed.param
    if failed.reason:
        message["reason"] = failed.reason
    return _encode(message)


def result_too_large(size_bytes: int, limit_bytes: int) -> Failed:
    """Return the failure of an answer that no message may carry."""
    return Failed(
        code="result_too_large",
        message=f"the result is {size_bytes} bytes, the broker takes {limit_bytes}",
        retryable=False,
        param="max_tokens",
    )
