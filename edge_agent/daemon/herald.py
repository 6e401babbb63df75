"""Tells the world outside when the engine's standing changes: systemd, the log, whoever waits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from edge_agent.ops.health import State
from edge_agent.ops.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

# What the daemon is ready in: the model is loaded, or will be on demand, or others answer.
_ANSWERING = {State.READY, State.UNLOADED, State.RELAY}


class Observer(Protocol):
    """Whoever started the daemon and wants to know when it can be used."""

    def listening(self, addresses: Sequence[tuple[str, int]]) -> None:
        """HTTP answers at `addresses`, the model perhaps not yet."""

    def ready(self) -> None:
        """The model answers, or peers do in its place."""


class Herald:
    """Listens to the standing and tells each change once."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._last: State | None = None
        self._was_ready = False

    def change(self, state: State, detail: str) -> None:
        """Tell that the engine is in `state`, and why."""
        notify(f"STATUS={state}: {detail}")
        if state is self._last:
            return  # progress; the log need not repeat what a pull writes itself
        self._last = state
        logger.info("state changed state=%s detail=%s", state, detail)
        if state in _ANSWERING and not self._was_ready:
            self._was_ready = True  # a model that comes and goes is not told each time
            self._observer.ready()
