"""Turns an incoming message into what the queue takes, or into the error to answer. Pure.

Wherever a request is refused, its answer still goes where the client may listen, never to a topic
that it must not make us publish to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from edge_agent.dialects.envelope import CONTENT_TYPE, Envelope, open_envelope
from edge_agent.errors import EdgeError, Forbidden, InvalidRequest, TooLarge
from edge_agent.messages import Policy
from edge_agent.serving.job import Draft
from edge_agent.transports.mqtt.wire import Address

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.transports.mqtt.topics import Topics
    from edge_agent.transports.mqtt.wire import Incoming

SOURCE = "mqtt"
# A UUID in any spelling fits; longer ones would be kept and echoed for nothing.
MOST_CORRELATION_BYTES = 64
MOST_USER_PROPERTIES = 32
# 64 bits: no two senders meet by chance.
_CLIENT_CHARS = 16
MOST_USER_PROPERTY_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that cannot be taken, and where to say so."""

    request_id: str
    address: Address
    error: EdgeError


def read_request(
    message: Incoming, *, fresh_id: str, config: Config, topics: Topics
) -> Draft | Refusal:
    """Return the request in `message`; it goes by `fresh_id` if the client names no id."""
    envelope = _envelope(message, config)
    request_id = envelope.id or fresh_id
    address, problem = _address(message, envelope, topics.response(request_id), topics)
    try:
        if problem := problem or _oversize(message):
            raise problem
        request = envelope.request(request_id=request_id, limits=config.limits)
    except EdgeError as exc:
        return Refusal(request_id=request_id, address=address, error=exc)
    deadline_s = _deadline_s(message.expiry_s, request.deadline_s, config)
    return Draft(
        source=SOURCE,
        key=_key(message, envelope, address),
        payload_sha=hashlib.sha256(message.payload).digest(),
        request=structs.replace(
            request,
            deadline_s=deadline_s,
            policy=request.policy or _usual_policy(config),
            client=_client(message, envelope),
        ),
        address=address.encode(),
        deadline_s=deadline_s,
        correlation=address.correlation,
        packet_id=message.packet_id if message.qos else None,
        is_redelivery=message.is_redelivery,
    )


def _envelope(message: Incoming, config: Config) -> Envelope:
    size_bytes, limit_bytes = len(message.payload), config.mqtt.max_payload_bytes
    if size_bytes > limit_bytes:
        return Envelope(problem=TooLarge("payload", size_bytes, limit_bytes))
    return open_envelope(
        message.payload,
        config.limits,
        properties=message.user_properties[:MOST_USER_PROPERTIES],
        is_json=message.content_type == CONTENT_TYPE,
    )


def _address(
    message: Incoming, envelope: Envelope, usual: str, topics: Topics
) -> tuple[Address, EdgeError | None]:
    """Return where the answer goes, and why that is not where the client asked, if so."""
    correlation = message.correlation
    if correlation is not None and len(correlation) > MOST_CORRELATION_BYTES:
        correlation = None  # the refusal says so; echoing it would be more than we are willing to
    wanted = message.response_topic or envelope.reply_to
    if wanted is None or wanted == usual or topics.may_reply_to(wanted):
        return Address(topic=wanted or usual, correlation=correlation), None
    error = Forbidden("the reply topic is outside the allow-list (mqtt.reply_topics)")
    error.param = "reply_to"
    return Address(topic=usual, correlation=correlation), error


def _oversize(message: Incoming) -> InvalidRequest | None:
    correlation_bytes = len(message.correlation or b"")
    if correlation_bytes > MOST_CORRELATION_BYTES:
        return TooLarge("correlation data", correlation_bytes, MOST_CORRELATION_BYTES)
    num_properties = len(message.user_properties)
    if num_properties > MOST_USER_PROPERTIES:
        return TooLarge("user properties", num_properties, MOST_USER_PROPERTIES, "properties")
    size_bytes = sum(len(name) + len(value) for name, value in message.user_properties)
    if size_bytes > MOST_USER_PROPERTY_BYTES:
        return TooLarge("user properties", size_bytes, MOST_USER_PROPERTY_BYTES)
    return None


def _key(message: Incoming, envelope: Envelope, address: Address) -> bytes | None:
    """Return what makes a repeat recognisable; a correlation is only unique among its receivers."""
    if envelope.id is not None:
        return b"i" + envelope.id.encode()
    if address.correlation is not None:
        receiver = message.response_topic or envelope.reply_to or ""
        return b"c" + address.correlation + b"\0" + receiver.encode()
    return None


def _client(message: Incoming, envelope: Envelope) -> str:
    """Return whom the request counts for: where it wants its answer, the only trace of a sender.

    Those that name no place count as one. Of a topic, which may be long, it is a digest.
    """
    topic = message.response_topic or envelope.reply_to
    if topic is None:
        return SOURCE
    return f"{SOURCE} {hashlib.sha256(topic.encode()).hexdigest()[:_CLIENT_CHARS]}"


def _usual_policy(config: Config) -> Policy | None:
    return None if config.mqtt.policy is None else Policy(config.mqtt.policy)


def _deadline_s(expiry_s: int | None, wanted_s: float | None, config: Config) -> float:
    """Return the seconds from now until the answer is worth nothing."""
    named = [float(value) for value in (expiry_s, wanted_s) if value is not None]
    return (
        min([*named, config.limits.max_deadline_s]) if named else config.journal.default_deadline_s
    )
