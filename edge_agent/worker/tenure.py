"""Decides when the engine is in memory. Plain values in, a move out; time is an argument.

Three wills meet here: somebody wants an answer, nobody has wanted one for long, memory is critical.
The last is the strongest, and no answer that was begun is broken off for the second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Move(Enum):
    """What is to be done about the engine process."""

    START = auto()
    """There is none, and there should be one."""
    REST = auto()
    """There is none, and there should be none."""
    SERVE = auto()
    """It goes on."""
    RETIRE = auto()
    """It takes nothing new, and ends once it has given the answers it began."""
    END = auto()
    """It ends now, whatever it is doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """How the engine's stay in memory stands; every change of it is a new one."""

    keep_alive_s: float | None
    """How long it stays when idle; None is for ever."""
    is_wanted: bool
    """It should be in memory when nothing forbids that."""
    is_held: bool = False
    """Memory is critical: no process may be."""
    is_leaving: bool = False
    """The process that there is takes nothing new."""
    idle_since_s: float | None = None
    """None while it has something to do, or is not ready to do it."""

    @classmethod
    def at_start(cls, keep_alive_s: float | None) -> Tenure:
        """Return the first one: what stays for ever is loaded at once, all else on demand."""
        return cls(keep_alive_s=keep_alive_s, is_wanted=keep_alive_s is None)

    @property
    def expires_s(self) -> float | None:
        """When idleness ends it, if nothing happens before."""
        if self.idle_since_s is None or self.keep_alive_s is None:
            return None
        return self.idle_since_s + self.keep_alive_s

    def move(self, *, has_process: bool, open_requests: int) -> Move:
        """Return what is to be done now; `open_requests` are those the process works on."""
        if not has_process:
            return Move.START if self.is_wanted and not self.is_held else Move.REST
        if self.is_held:
            return Move.END
        if self.is_leaving:
            return Move.RETIRE if open_requests else Move.END
        return Move.SERVE

    def called(self) -> Tenure:
        """Somebody wants it."""
        return replace(self, is_wanted=True)

    def started(self) -> Tenure:
        """A new process begins; whatever was meant for the last one is over."""
        return replace(self, is_leaving=False, idle_since_s=None)

    def kept(self, keep_alive_s: float | None) -> Tenure:
        """From now on it stays so long when idle."""
        return replace(self, keep_alive_s=keep_alive_s)

    def seen(self, *, is_idle: bool, now_s: float) -> Tenure:
        """Somebody looked at what it does; once it was idle for long enough, it leaves."""
        since_s = (now_s if self.idle_since_s is None else self.idle_since_s) if is_idle else None
        seen = replace(self, idle_since_s=since_s)
        is_over = seen.expires_s is not None and seen.expires_s <= now_s
        return seen.sent_away() if is_over else seen

    def sent_away(self) -> Tenure:
        """Nobody wants it any more; it may finish what it has begun."""
        return replace(self, is_wanted=False, is_leaving=True)

    def held(self) -> Tenure:
        """Memory became critical."""
        return replace(self, is_held=True)

    def released(self) -> Tenure:
        """Memory is not critical any more."""
        return replace(self, is_held=False)
