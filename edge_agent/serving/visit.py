"""One request on its way through the house: who was asked for it, and what is out already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.errors import (
    EngineCrashed,
    Loading,
    Overloaded,
    PeerFailed,
    Pressure,
    PromptTooLong,
    Recalled,
    TooLongForPeer,
    Unavailable,
)
from edge_agent.messages import Delta, Failed, ToolCall
from edge_agent.serving.admission import Decision, Place, Reason

if TYPE_CHECKING:
    from edge_agent.messages import Event, Request
    from edge_agent.serving.admission import Need
    from edge_agent.serving.record import Record

# Failures of the engine that a peer may not have, and why the peer answers then.
TAKEN_OVER = {
    EngineCrashed.code: Reason.CRASHED,
    Loading.code: Reason.LOADING,
    Overloaded.code: Reason.QUEUE,
    Pressure.code: Reason.PRESSURE,
    PromptTooLong.code: Reason.TOO_LARGE,
}
# A new engine process is there within seconds, if it can be.
AGAIN_S = 5.0
# Failures of the peers after which the engine here may be asked.
_TAKEN_BACK = {PeerFailed.code, TooLongForPeer.code, Unavailable.code}


class Visit:
    """One request, its record, and what became of the attempts to answer it."""

    def __init__(self, request: Request, record: Record, need: Need) -> None:
        self.request = request
        self.record = record
        self.need = need
        self.is_inside = False
        """It was let in: whatever happens next, the house owes it an end."""
        self.held_since_s: float | None = None
        """When it began to wait for memory."""
        self.failed_here: Failed | None = None
        self.failed_there: Failed | None = None
        self._is_delivered = False
        self._is_recalled = False

    def note(self, event: Event) -> None:
        """Take `event`, which goes out now, into account."""
        self._is_delivered = self._is_delivered or isinstance(event, Delta | ToolCall)

    def left_s(self, now_s: float) -> float | None:
        """Return the seconds until the deadline, never less than 0; None without one."""
        deadline_s = self.request.deadline_s
        return None if deadline_s is None else max(0.0, self.record.began_s + deadline_s - now_s)

    @property
    def reason_here(self) -> Reason:
        """Why it is the engine that answers."""
        return Reason.PEER_FAILED if self.failed_there else Reason.LOCAL

    def leaves(self, failed: Failed) -> bool:
        """Return whether a peer may answer after the engine `failed`, and note that it has."""
        if self._is_delivered or self.failed_there or failed.code not in TAKEN_OVER:
            return False
        self.failed_here = failed
        return True

    def is_given_back(self, failed: Failed) -> bool:
        """Return whether the engine `failed` to begin with this for want of memory, and note it."""
        is_back = failed.code == Recalled.code and not self._is_delivered
        self._is_recalled = self._is_recalled or is_back
        return is_back

    def in_turn(self, decision: Decision) -> Decision:
        """Return `decision`, or to wait at the door first if the engine has just given this back.

        Whoever gave it back and whoever decides may not see the same memory; the door is where one
        waits for both.
        """
        if not self._is_recalled or decision.place is Place.PEER:
            return decision
        self._is_recalled = False
        return Decision(Place.WAIT, Reason.PRESSURE)

    def returns(self, failed: Failed) -> bool:
        """Return whether the engine may answer after peers `failed`, and note that they have."""
        if self._is_delivered or self.failed_here or failed.code not in _TAKEN_BACK:
            return False
        self.failed_there = failed
        return True

    def last_word(self, event: Event) -> Event:
        """Return `event`; where the peers' failure is the last of two, say both."""
        if self._is_delivered or self.failed_here is None or not isinstance(event, Failed):
            return event
        if event.code not in _TAKEN_BACK:
            return event
        if event.code == TooLongForPeer.code:
            return self.failed_here  # no peer can help, then or now: this is what there is to say
        both = Unavailable(
            f"{self.failed_here.message}, and {event.message}", event.retry_after_s or AGAIN_S
        )
        return Failed.of(both)
