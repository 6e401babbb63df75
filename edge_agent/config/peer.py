"""`peers`: the servers that answer when this one cannot."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Peer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another server that answers when this one cannot."""

    # It stands in headers, topics and metrics.
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="how we call it")]
    kind: Annotated[
        Literal["ollama", "openai"],
        Meta(description="openai: vLLM, llama.cpp's server, another edge-agent, …"),
    ]
    url: Annotated[
        str, Meta(max_length=500, description="http(s)://host:port, without /v1 or /api")
    ]
    model: Annotated[
        str, Meta(min_length=1, max_length=256, description="what the model is called there")
    ]
    # Nothing leaves the site by accident: who configures a cloud peer says so.
    zone: Annotated[
        Literal["site", "cloud"], Meta(description="where it stands; see routing.policy")
    ]
    priority: Annotated[int, Meta(ge=-1000, le=1000, description="higher is asked first")] = 0
    api_key_file: Annotated[
        str | None, Meta(description="file with the key to send, on its first line")
    ] = None
    # A machine on the same network answers within milliseconds, or is not there.
    connect_timeout_s: Annotated[Seconds, Meta(description="longest wait for a connection, s")] = (
        2.0
    )
    # Clients and proxies commonly give up after a minute without an answer.
    first_byte_timeout_s: Annotated[
        Seconds,
        Meta(description="longest wait for the first piece of an answer, queue and load included"),
    ] = 60.0
    # The slowest machine worth asking makes a token a second.
    idle_timeout_s: Annotated[
        Seconds, Meta(description="longest wait for the next piece of an answer, s")
    ] = 30.0
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="requests it gets at once; null: no limit"),
    ] = None
    # Another value than the last one makes Ollama load its model again.
    context: Annotated[
        Annotated[int, Meta(ge=128, le=1 << 20)] | None,
        Meta(
            description="context tokens a request may take there, and Ollama is asked for; "
            "null: what the peer tells, and of Ollama as much as a request needs"
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: the name is taken by this gateway, or the URL cannot be one of a peer.
        """
        if self.name == "local":
            msg = "a peer cannot be called 'local': that is this gateway itself"
            raise ValueError(msg)
        if problem := _url_problem(self.url):
            msg = f"url of peer {self.name!r} {problem}"
            raise ValueError(msg)


def _url_problem(url: str) -> str | None:
    """Return what is wrong with the URL of a peer."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as exc:
        return f"cannot be read: {exc}"
    if parts.username is not None or parts.password is not None:
        return "holds a name or password; a key belongs into api_key_file"
    has_more = (
        parts.query or parts.fragment or " " in url or not (url.isascii() and url.isprintable())
    )
    if not is_address or has_more:
        return "must be http://host:port or https://host:port, perhaps with a path"
    if parts.path.rstrip("/").endswith(("/v1", "/api")):
        return "must end before /v1 or /api"
    return None
