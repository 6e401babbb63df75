"""The section `mqtt`: the broker, our topics and what we ask of both."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Mqtt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MQTT surface; without `url` there is none."""

    url: Annotated[
        str | None,
        Meta(description="mqtt://host:1883 or mqtts://host:8883; null: no MQTT"),
    ] = None
    node: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="this gateway's name in topics; null: host name"),
    ] = None
    base_topic: Annotated[
        str, Meta(min_length=1, max_length=200, description="root of all our topics")
    ] = "edge/v1/{node}"
    reply_topics: Annotated[
        tuple[str, ...], Meta(max_length=32, description="filters a reply topic must match")
    ] = ("edge/v1/{node}/response/#",)
    username: Annotated[str | None, Meta(description="broker user")] = None
    password_file: Annotated[str | None, Meta(description="file with the broker password")] = None
    ca_file: Annotated[
        str | None, Meta(description="CA bundle for mqtts (PEM); null: system's")
    ] = None
    cert_file: Annotated[str | None, Meta(description="client certificate (PEM)")] = None
    key_file: Annotated[str | None, Meta(description="key of the client certificate (PEM)")] = None
    client_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        Meta(description="fixed client id; null: edge-agent-{node}"),
    ] = None
    # Long enough not to lose queued requests over a night's outage.
    session_expiry_s: Annotated[
        int, Meta(ge=0, le=0xFFFFFFFE, description="how long the broker keeps our session, s")
    ] = 86400
    keepalive_s: Annotated[int, Meta(ge=5, le=3600, description="MQTT keep-alive, s")] = 30
    # Fast restarts must not flap: the broker waits this long before it publishes the will.
    will_delay_s: Annotated[int, Meta(ge=0, le=600, description="delay of the last will, s")] = 5
    # In flight and not yet on disk; each is on disk within milliseconds.
    receive_maximum: Annotated[
        int, Meta(ge=1, le=65535, description="unacknowledged requests the broker may send")
    ] = 8
    max_payload_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="largest request payload, bytes")
    ] = 1 << 20
    # Brokers drop what is larger (AWS IoT 128 kB, mosquitto 2.1 2 MB); v5 brokers tell us theirs.
    max_packet_bytes: Annotated[
        int, Meta(ge=1024, le=256 << 20, description="largest packet we publish, bytes")
    ] = 2_000_000
    policy: Annotated[
        Literal["local", "site", "any"] | None,
        Meta(
            description="how far prompts that come over MQTT and do not say may travel; "
            "null: routing.policy"
        ),
    ] = None
    # Ten messages a second per stream at most: a small broker serves many clients.
    delta_interval_s: Annotated[
        float, Meta(ge=0.01, le=10, description="deltas are joined over this time, s")
    ] = 0.1
