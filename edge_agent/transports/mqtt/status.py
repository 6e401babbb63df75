"""What we publish about ourselves: retained, complete, and without secrets. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.dialects.envelope import CONTENT_TYPE
from edge_agent.transports.mqtt.reading import MOST_CORRELATION_BYTES, MOST_USER_PROPERTIES

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.ops.health import Health
    from edge_agent.transports.mqtt.topics import Topics


FREE_STEP_MB = 100
FREE_STEP_BYTES = FREE_STEP_MB * 1_000_000


class Presence(StrEnum):
    """Whether anyone will answer."""

    ONLINE = "online"
    STOPPED = "stopped"
    """Stopped on purpose; requests wait at the broker."""
    OFFLINE = "offline"
    """The broker lost us: our last will."""


def status(
    presence: Presence, *, epoch: int, health: Health, problem: str | None
) -> dict[str, Any]:
    """Return the status message; `epoch` tells a late will of an earlier life from ours.

    `free_mb` is told in coarse steps: it changes all the time, and a status is for changes.
    """
    memory = health.memory
    free_bytes = memory.available_bytes if memory else None
    return {
        "state": presence,
        "epoch": epoch,
        "version": health.version,
        "model": health.model,
        "engine": health.state,
        "ready": health.ready,
        "pressure": memory.level if memory else None,
        "reason": memory.reason if memory else None,
        "free_mb": None if free_bytes is None else free_bytes // FREE_STEP_BYTES * FREE_STEP_MB,
        "peers": {peer.name: peer.breaker for peer in health.peers},
        "queue": health.jobs_open,
        "running": health.running,
        "slots": health.slots,
        "durability": health.durability,
        "degraded": problem,
    }


def will(epoch: int) -> bytes:
    """Return what the broker says when it loses us."""
    return encode({"state": Presence.OFFLINE, "epoch": epoch})


def info(config: Config, topics: Topics, health: Health) -> dict[str, Any]:
    """Return what a requester needs to know before it asks."""
    return {
        "name": "edge-agent",
        "node": config.node,
        "version": health.version,
        "model": health.model,
        "models": [
            {"name": served.name, "context_tokens": served.context_tokens}
            for served in health.models
        ],
        "topics": {
            "request": topics.request,
            "cancel": topics.cancel,
            "status": topics.status,
            "response": topics.response("{id}"),
            "reply_topics": list(topics.reply_filters),
        },
        "limits": {
            "payload_bytes": config.mqtt.max_payload_bytes,
            "packet_bytes": config.mqtt.max_packet_bytes,
            "correlation_bytes": MOST_CORRELATION_BYTES,
            "user_properties": MOST_USER_PROPERTIES,
            "id_chars": config.limits.max_id_chars,
            "messages": config.limits.max_messages,
            "context_tokens": config.engine.context,
            "jobs": config.journal.max_jobs,
            "deadline_s": config.limits.max_deadline_s,
            "default_deadline_s": config.journal.default_deadline_s,
            "retention_s": config.journal.retention_s,
        },
        "content_type": CONTENT_TYPE,
    }


def encode(body: dict[str, Any]) -> bytes:
    """Return `body` as it is published."""
    return msgspec.json.encode(body)
