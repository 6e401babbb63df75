"""All sections together, and what only the whole can get wrong."""

from __future__ import annotations

import socket
from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.config.daemon import Daemon
from edge_agent.config.engine import Engine
from edge_agent.config.http import Http
from edge_agent.config.journal import Journal
from edge_agent.config.limits import Limits
from edge_agent.config.memory import Memory
from edge_agent.config.mqtt import Mqtt
from edge_agent.config.peer import Peer
from edge_agent.config.routing import Routing


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        Meta(description="package to serve; null: none, peers answer everything"),
    ] = "smollm2-135m-instruct"
    # Beyond a handful nobody knows any more why a request went where it went.
    peers: Annotated[
        tuple[Peer, ...],
        Meta(max_length=16, description="servers that answer when this one cannot"),
    ] = ()
    http: Http = Http()
    mqtt: Mqtt = Mqtt()
    engine: Engine = Engine()
    memory: Memory = Memory()
    journal: Journal = Journal()
    limits: Limits = Limits()
    daemon: Daemon = Daemon()
    routing: Routing = Routing()

    def __post_init__(self) -> None:
        """Check what no single key can.

        Raises:
            ValueError: two peers have one name, or there is nobody to answer.
        """
        names = [peer.name for peer in self.peers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            msg = f"two peers are called {twice!r}"
            raise ValueError(msg)
        if self.model is None and (not self.peers or self.routing.fallback == "never"):
            msg = "model is null, and no peer may answer (peers, routing.fallback)"
            raise ValueError(msg)

    @property
    def default_model(self) -> str:
        """What answers requests that name no model: ours, else that of the first peer."""
        return self.model or self.peers[0].model

    @property
    def node(self) -> str:
        """This gateway's name in topics and logs."""
        return self.mqtt.node or socket.gethostname()
