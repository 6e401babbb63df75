"""The state of the daemon as plain values: what `/health`, the MQTT status and the log tell."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from edge_agent.modelstore.kv_dtype import KvChoice
from edge_agent.ops.lag import LoopLag
from edge_agent.ops.memory_health import MemoryHealth

LOCAL = "local"


class State(StrEnum):
    """Where the engine is in its life."""

    PREPARING = "preparing"
    """The model package is being fetched or imported; it was not here."""
    LOADING = "loading"
    """The engine process is starting."""
    READY = "ready"
    UNLOADING = "unloading"
    """The engine process ends once it has given the answers it began."""
    UNLOADED = "unloaded"
    """There is no engine process; the next request starts one."""
    HELD = "held"
    """Memory is critical: the engine process was ended, and none starts until it is not."""
    RESTARTING = "restarting"
    """The engine process died; a new one is started after a wait."""
    FAILED = "failed"
    """The model cannot be served; `detail` says why. Only an operator can help."""
    RELAY = "relay"
    """No model is served here, by configuration or because this CPU cannot: peers answer."""
    DRAINING = "draining"
    """The daemon is going down."""

    @property
    def can_answer(self) -> bool:
        """Whether a request that comes now is answered here, perhaps after a load."""
        return self in {State.READY, State.UNLOADING, State.UNLOADED}


class Served(Struct, frozen=True, kw_only=True):
    """A model that requests may name."""

    name: str
    created: int
    context_tokens: int | None
    """None where a peer serves it and does not say."""


class PeerHealth(Struct, frozen=True, kw_only=True):
    """A server that may answer in our place; `problem` is what was last wrong with it."""

    name: str
    kind: str
    zone: str
    model: str
    breaker: str
    """`closed` (requests pass), `resting`, `open` (none passes) or `half_open` (one may try)."""
    running: int
    problem: str | None = None
    context_tokens: int | None = None
    """Prompt and answer of a request have so much room there; None if it has not told."""
    open_requests: int | None = None
    """What it had to do when it was last looked at, whoever asked; None if it has not told."""


class Health(Struct, frozen=True, kw_only=True):
    """One truthful look at the daemon."""

    state: State
    detail: str
    version: str
    model: str
    models: tuple[Served, ...]
    uptime_s: float
    slots: int
    running: int
    waiting: int
    engine_restarts: int
    jobs_open: int
    durability: str
    """`full`: accepted jobs survive power loss. `none`: the disk fails and nothing is accepted over
    MQTT, or it is memory (tmpfs) and what is accepted ends with the machine.
    """
    mqtt: str
    """`off`, `connected` or `disconnected`."""
    answers: tuple[str, ...] = ()
    """Who can answer a request of the default policy, perhaps after a load: `local`, peers; the
    first is asked first.
    """
    obstacles: tuple[str, ...] = ()
    """Why the model here would not begin with a request that comes now; empty if it would."""
    memory: MemoryHealth | None = None
    """None before the first look."""
    peers: tuple[PeerHealth, ...] = ()
    cap_tokens: int | None = None
    """What prompt and answer together may be while memory is hard; None if that is the context."""
    held: int = 0
    """Requests that wait for memory."""
    at_peers: int = 0
    """Requests that peers are answering."""
    expected_wait_s: float | None = None
    """When a request that comes now would be begun here; None before the first answer."""
    kv_usage: float = 0.0
    """Share of the slots' KV cache that running requests fill, 0 to 1."""
    kept_bytes: int = 0
    """KV cache of ended requests, kept for prompts that begin like them."""
    drafted_tokens: int = 0
    """Guessed tokens that were verified, since the daemon started."""
    accepted_tokens: int = 0
    """Those of them that came true."""
    predicted_bytes: int = 0
    """What the requests at the engine take in all, by arithmetic."""
    kv: KvChoice | None = None
    """What the KV cache stores, and why; None until a model is here."""
    loop_lag: LoopLag | None = None
    """None in the first moments."""

    @property
    def ready(self) -> tuple[str, ...]:
        """Who would take a request that comes now."""
        return tuple(name for name in self.answers if name != LOCAL or not self.obstacles)
