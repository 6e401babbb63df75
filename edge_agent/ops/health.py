"""The state of the daemon as plain values: what `/health`, the MQTT status and the log tell."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


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
    context_tokens: int


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
