"""Decides who answers a request and guards the rules that hold for every answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_agent.messages import Events, Request


class Backend(Protocol):
    """Something that answers requests: the engine process, later a peer, and the router itself."""

    def stream(self, request: Request) -> Events:
        """Yield the events of `request`; the last one is `Done` or `Failed`, never an exception.

        Closing the generator cancels the request.
        """
        ...
