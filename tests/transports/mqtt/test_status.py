from __future__ import annotations

import json
from typing import Any

from edge_agent.config import Config, Mqtt
from edge_agent.ops.health import Health, PeerHealth, Served, State
from edge_agent.ops.memory_health import MemoryHealth
from edge_agent.transports.mqtt import status
from edge_agent.transports.mqtt.session import _same_state
from edge_agent.transports.mqtt.status import Presence
from edge_agent.transports.mqtt.topics import Topics

SECRETS: dict[str, Any] = {
    "username": "gateway",
    "password_file": "/secrets/pw",
    "key_file": "/secrets/key",
}
CONFIG = Config(mqtt=Mqtt(node="gw1", url="mqtts://broker.site", **SECRETS))


def health(**more: Any) -> Health:
    usual = {
        "state": State.READY,
        "detail": "",
        "version": "1.2.3",
        "model": CONFIG.model,
        "models": (Served(name=CONFIG.default_model, created=0, context_tokens=2048),),
        "uptime_s": 1.0,
        "slots": 4,
        "running": 0,
        "waiting": 0,
        "engine_restarts": 0,
        "jobs_open": 0,
        "durability": "full",
        "mqtt": "connected",
    }
    return Health(**{**usual, **more})


def test_info_says_what_a_requester_needs_and_no_secret() -> None:
    info = status.info(CONFIG, Topics.of(CONFIG), health())
    text = json.dumps(info)

    assert info["models"] == [{"name": CONFIG.model, "context_tokens": 2048}]
    assert info["topics"]["response"] == "edge/v1/gw1/response/{id}"
    assert not any(secret in text for secret in SECRETS.values())


def test_the_will_is_recognised_by_its_epoch() -> None:
    online = status.status(Presence.ONLINE, epoch=7, health=health(), problem=None)

    assert json.loads(status.will(7)) == {"state": "offline", "epoch": online["epoch"]}


def test_a_problem_of_the_disk_is_told() -> None:
    told = status.status(
        Presence.ONLINE, epoch=7, health=health(durability="none"), problem="disk full"
    )

    assert (told["durability"], told["degraded"]) == ("none", "disk full")


def test_counting_alone_is_no_new_state() -> None:
    def told(**more: Any) -> dict[str, Any]:
        return status.status(Presence.ONLINE, epoch=7, health=health(**more), problem=None)

    assert _same_state(told(jobs_open=5, running=2), told())
    assert not _same_state(told(durability="none"), told())
    assert not _same_state(told(state=State.RESTARTING), told())
    assert not _same_state(told(), None)


MEMORY = MemoryHealth(
    level="soft",
    reason="700 MB available of 4000 MB by machine",
    level_s=3.0,
    may_begin=True,
    available_bytes=712_345_678,
    swift_bytes=500_000_000,
    total_bytes=4_000_000_000,
    bound="machine",
    rss_anon_bytes=300_000_000,
    rss_file_bytes=200_000_000,
)
ATTIC = PeerHealth(
    name="attic", kind="ollama", zone="site", model="phi", breaker="closed", running=0
)


def test_the_status_says_who_answers_and_how_tight_memory_is() -> None:
    told = status.status(
        Presence.ONLINE,
        epoch=7,
        health=health(
            memory=MEMORY, peers=(ATTIC,), answers=("local", "attic"), obstacles=("pressure",)
        ),
        problem=None,
    )

    assert (told["pressure"], told["reason"], told["free_mb"]) == ("soft", MEMORY.reason, 700)
    assert told["peers"] == {"attic": "closed"}
    assert told["ready"] == ("attic",)
