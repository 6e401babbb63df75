"""Judges how an engine process ended. Plain values in and out."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum, auto

_WRONG_PROCESSOR = "this processor lacks instructions that the engine needs (killed by SIGILL)"


class Cause(Enum):
    """Why a process ended."""

    UNWANTED = auto()
    """It was ended because it was not wanted, or not to be."""
    NO_MEMORY = auto()
    """The kernel killed it for want of memory, whoever took that: nobody it worked for is to blame.
    """
    WRONG_PROCESSOR = auto()
    """The processor cannot run it; no other try will end otherwise."""
    CANNOT_LOAD = auto()
    """It said itself that its model cannot be loaded."""
    CRASH = auto()


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: why, and in words."""

    cause: Cause
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """What is known of a process that is gone."""

    code: int
    """Its return code; minus a signal's number if it died of that."""
    how: str
    """The same in words, or what was wrong with it before."""
    was_ready: bool
    """It had loaded its model."""
    load_failure: str | None
    is_dismissed: bool
    """We ended it, or were about to, because it was not wanted."""
    was_killed: bool
    """It died of a SIGKILL that was not ours."""


def judged(gone: Exit, *, oom_kills_before: int | None, oom_kills_after: int | None) -> End:
    """Return why a process is `gone`.

    The kernel counts the processes it killed for want of memory; where nobody counts (None), a kill
    that was not ours was the kernel's: who else would.
    """
    is_counted = oom_kills_before is not None and oom_kills_after is not None
    if gone.was_killed and (not is_counted or (oom_kills_after or 0) > (oom_kills_before or 0)):
        return End(Cause.NO_MEMORY, f"{gone.how}, out of memory")
    if gone.is_dismissed:
        return End(Cause.UNWANTED, gone.how)
    if gone.code == -signal.SIGILL and not gone.was_ready:
        return End(Cause.WRONG_PROCESSOR, _WRONG_PROCESSOR)
    if gone.load_failure is not None:
        return End(Cause.CANNOT_LOAD, gone.load_failure)
    return End(Cause.CRASH, gone.how)


def in_words(code: int) -> str:
    """Return how a process with return code `code` ended, naming a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
