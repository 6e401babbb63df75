"""The section `http`: addresses, keys and bounds of the HTTP surface."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP surface."""

    listen: Annotated[
        tuple[str, ...], Meta(max_length=8, description="addresses as host:port; empty: no HTTP")
    ] = ("127.0.0.1:8080",)
    api_key_file: Annotated[
        str | None,
        Meta(description="file with one key per line; needed to listen beyond loopback"),
    ] = None
    # Clients that may ask questions need not be able to take the model away from the others.
    admin_key_file: Annotated[
        str | None,
        Meta(description="file with one key per line; /admin needs one of them, also on loopback"),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names accepted in Host and Origin beside loopback and own addresses"),
    ] = ()
    # A megabyte of prompt is about 250,000 tokens, twice the longest context there is.
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="largest request body, bytes")
    ] = 1 << 20
    # Idle proxies cut at 30-60 s; a comment line every 10 s keeps a slow prefill alive.
    heartbeat_s: Annotated[Seconds, Meta(description="SSE comment when nothing was sent, s")] = 10.0
