"""The engine's tenure in force: who changes it, what is said of it, and an alarm for its end.

What is to be done is decided in `tenure` and done by the supervisor.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from edge_agent.worker.tenure import Move, Tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.messages import Request

_ON_DEMAND = "not loaded; the model is loaded when a request needs it"
_SENT_AWAY = "unloaded: {}; the model is loaded when a request needs it"
_IDLE = "idle for {:g} s"


class Stay:
    """Whether the engine should be in memory, and why not while it is not."""

    def __init__(self, keep_alive_s: float | None, on_due: Callable[[], None]) -> None:
        """`keep_alive_s` None is for ever; `on_due` is called when idleness lasted for that long.

        Requests may ask for another time, which holds until the next one.
        """
        self._usual_s = keep_alive_s
        self._tenure = Tenure.at_start(keep_alive_s)
        self._on_due = on_due
        self._alarm: asyncio.TimerHandle | None = None
        self.why = _ON_DEMAND
        """What is said while there is no process."""
        self.retry_after_s: float | None = None
        """When to ask again, while it is held."""

    @property
    def is_wanted(self) -> bool:
        """It should be in memory when nothing forbids that."""
        return self._tenure.is_wanted

    @property
    def is_held(self) -> bool:
        """Memory is critical."""
        return self._tenure.is_held

    @property
    def is_leaving(self) -> bool:
        """The process that there is takes nothing new."""
        return self._tenure.is_leaving

    def move(self, *, has_process: bool, open_requests: int) -> Move:
        """Return what is to be done now; `open_requests` are those the process works on."""
        return self._tenure.move(has_process=has_process, open_requests=open_requests)

    def call(self) -> None:
        """Somebody wants it."""
        self._tenure = self._tenure.called()

    def stay_as_usual(self) -> None:
        """Somebody wants it for as long as is usual, whatever the last request asked for."""
        self._tenure = self._tenure.kept(self._usual_s)

    def begin(self) -> None:
        """A new process is started."""
        self._tenure = self._tenure.started()
        self._set_alarm()

    def send_away(self, reason: str) -> None:
        """Nobody wants it any more, for `reason`."""
        self.why = _SENT_AWAY.format(reason)
        self._tenure = self._tenure.sent_away()

    def hold(self, reason: str, retry_after_s: float) -> None:
        """Memory became critical, as `reason` says, for `retry_after_s` at least."""
        self.why, self.retry_after_s = reason, retry_after_s
        self._tenure = self._tenure.held()

    def release(self) -> None:
        """Memory is not critical any more."""
        self.why, self.retry_after_s = _ON_DEMAND, None
        self._tenure = self._tenure.released()

    def answered(self, request: Request) -> None:
        """`request` is over, and may have said how long to stay after it."""
        asked_s = request.keep_alive_s
        if asked_s is None:
            self._tenure = self._tenure.kept(self._usual_s)
        else:
            self._tenure = self._tenure.kept(asked_s if asked_s >= 0 else None)

    def look(self, *, is_idle: bool) -> None:
        """See whether it is idle; it leaves if that lasted for long enough, else later."""
        was_leaving = self._tenure.is_leaving
        self._tenure = self._tenure.seen(is_idle=is_idle, now_s=time.monotonic())
        if self._tenure.is_leaving and not was_leaving:
            self.send_away(_IDLE.format(self._tenure.keep_alive_s))
        self._set_alarm()

    def close(self) -> None:
        """Call `on_due` no more."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None

    def _set_alarm(self) -> None:
        self.close()
        due_s = self._tenure.expires_s
        if due_s is not None and not self._tenure.is_leaving:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, due_s - time.monotonic()), self._on_due)
