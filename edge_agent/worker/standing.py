"""Where the engine is in its life: a state, a sentence about it, and who is told of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.ops.health import State


class Standing:
    """The state of the engine; preparation and supervisor write it, health reads it."""

    def __init__(self, state: State, detail: str) -> None:
        self.state = state
        self.detail = detail
        self._listeners: list[Callable[[State, str], None]] = []

    def __repr__(self) -> str:
        return f"<Standing {self.state}: {self.detail}>"

    def listen(self, listener: Callable[[State, str], None]) -> None:
        """Call `listener(state, detail)` after every change."""
        self._listeners.append(listener)

    def change(self, state: State, detail: str) -> None:
        """Take on `state` and tell the listeners, unless nothing is new."""
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail = state, detail
        for listener in self._listeners:
            listener(state, detail)
