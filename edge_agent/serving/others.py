"""The peers as the router sees them: one backend that may or may not be able to help."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from edge_agent.messages import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.errors import EdgeError
    from edge_agent.messages import Events, Request
    from edge_agent.serving.peers.peers import Peers


class Others:
    """All peers, asked one after the other."""

    def __init__(self, peers: Peers, clock: Callable[[], float]) -> None:
        """`clock` is the one that `peers` go by."""
        self._peers = peers
        self._clock = clock

    def usable(self, request: Request) -> int:
        """Return how many peers may and can answer `request` now."""
        return len(self._peers.candidates(request))

    def problem(self, request: Request) -> str | None:
        """Return why none can, as one line; None if there is nobody who might."""
        if request.policy is Policy.LOCAL or not self._peers.states():
            return None
        return self._peers.why_not(request)

    def barred(self, request: Request) -> str:
        """Return which of them only the policy keeps `request` from; empty if none."""
        return "" if request.policy is Policy.LOCAL else self._peers.barred(request)

    def refusal(self, request: Request) -> EdgeError | None:
        """Return why none will ever answer `request` as it is; None if one may."""
        return self._peers.refusal(request)

    async def stream(self, request: Request) -> Events:
        """Yield the answer of the first peer that gives one; the last event ends it."""
        left_s = request.deadline_s
        deadline_s = None if left_s is None else self._clock() + left_s
        candidates = self._peers.candidates(request)
        async with aclosing(self._peers.stream(request, candidates, deadline_s)) as events:
            async for event in events:
                yield event
