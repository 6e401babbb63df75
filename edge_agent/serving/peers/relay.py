"""The one loop that tries peers: nothing above or below it asks a second time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeError, PeerRefused, Unavailable
from edge_agent.messages import Delta, Failed, ToolCall
from edge_agent.serving.peers.trouble import Kind, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.messages import Events
    from edge_agent.serving.peers.errand import Errand
    from edge_agent.serving.peers.peer import Peer
    from edge_agent.serving.peers.retry_budget import RetryBudget

# Who has been asked thrice in vain has seen what there is to see; peers that could not be reached
# cost nobody anything and do not count.
MOST_TRIES = 3
# A peer that is busy for so long at most is waited for, if there is no other.
LONGEST_WAIT_S = 5.0
# What a client is told when no peer named a time.
RETRY_AFTER_S = 5.0


class Relay:
    """Hands requests to peers, one after the other until one answers."""

    def __init__(self, budget: RetryBudget, clock: Callable[[], float]) -> None:
        self._budget = budget
        self._clock = clock

    async def stream(
        self,
        errand: Errand,
        candidates: Sequence[Peer],
        deadline_s: float | None,
    ) -> Events:
        """Yield the answer of the first peer that gives one, or a last `Failed`.

        The next peer is asked only while no text and no call was yielded: two answers are never
        joined. `deadline_s` is a reading of the clock.
        """
        self._budget.note_request(self._clock())
        waiting = deque((peer, 0.0) for peer in candidates)
        troubles: list[Trouble] = []
        while waiting and self._may_try(troubles):
            peer, not_before_s = waiting.popleft()
            await asyncio.sleep(max(0.0, not_before_s - self._clock()))
            if not not_before_s and peer.obstacle(errand):
                continue  # since it was chosen
            has_begun = False
            try:
                async with aclosing(peer.ask(errand, deadline_s)) as events:
                    async for event in events:
                        has_begun = has_begun or isinstance(event, Delta | ToolCall)
                        yield event
            except Trouble as trouble:
                troubles.append(trouble)
                if has_begun or trouble.kind in {Kind.REFUSED, Kind.LATE}:
                    yield Failed.of(trouble.error)
                    return
                back_s = self._back_s(trouble, deadline_s)
                if back_s is not None and not not_before_s:
                    waiting.append((peer, back_s))
            else:
                return
        yield Failed.of(_verdict(troubles))

    def _may_try(self, troubles: list[Trouble]) -> bool:
        """Return whether one more try is allowed; the first is, and after one that cost nothing."""
        if not troubles or troubles[-1].kind is Kind.AWAY:
            return True
        num_tries = sum(trouble.kind is not Kind.AWAY for trouble in troubles)
        return num_tries < MOST_TRIES and self._budget.take(self._clock())

    def _back_s(self, trouble: Trouble, deadline_s: float | None) -> float | None:
        """Return when a busy peer is worth asking again within this request."""
        asked_s = trouble.error.retry_after_s
        if trouble.kind is not Kind.BUSY or asked_s is None or asked_s > LONGEST_WAIT_S:
            return None
        back_s = self._clock() + asked_s
        return back_s if deadline_s is None or back_s < deadline_s else None


def _verdict(troubles: list[Trouble]) -> EdgeError:
    """Return why nobody answered: every reason, not only the last."""
    is_final = troubles and all(isinstance(trouble.error, PeerRefused) for trouble in troubles)
    if is_final or len(troubles) == 1:
        return troubles[0].error  # who refuses a request, refuses it for what it is
    said = [trouble.error.retry_after_s for trouble in troubles]
    reason = "; ".join(dict.fromkeys(str(trouble) for trouble in troubles))
    after_s = min((s for s in said if s is not None), default=RETRY_AFTER_S)
    return Unavailable(reason or "no peer can be asked now", after_s)
