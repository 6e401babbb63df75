"""Decides whether a peer is worth asking. Arithmetic on plain values: time, chance are arguments.

A breaker is a value; every event makes the next one. Closed, requests pass. Open, none does, until
the hold is over: then it is half open, and one request at a time may try. What opened it decides
what closes it: a peer that was away is back when a probe reaches it; one that answered badly has
to answer well, for its probes went well all the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

OPEN_AFTER = 5
# Failures in between successes count as well: half of the last ones, if these are enough to tell.
WINDOW_S = 30.0
LEAST_OUTCOMES = 10
MOST_FAILED_SHARE = 0.5
# More outcomes than this say no more about the share.
MOST_OUTCOMES = 64
FIRST_HOLD_S = 30.0
LONGEST_HOLD_S = 300.0
# A busy peer that names no time, as Ollama and vLLM do not, is left alone for 2 to 10 s.
LEAST_REST_S = 2.0
LONGEST_OWN_REST_S = 10.0
# A peer may ask for more rest than this; it is then asked again to see.
LONGEST_REST_S = 300.0


class Fault(StrEnum):
    """In what way a peer failed."""

    AWAY = "away"
    """It could not be reached."""
    WRONG = "wrong"
    """It was reached, and answered badly or not at all."""


class Standing(StrEnum):
    """Whether requests pass."""

    CLOSED = "closed"
    RESTING = "resting"
    """It said that it is busy; nothing is wrong with it."""
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One request at a time may try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is remembered of one peer."""

    failures: int = 0
    """In a row."""
    outcomes: tuple[tuple[float, bool], ...] = ()
    """When, and whether it went well; the last `WINDOW_S` only."""
    open_until_s: float | None = None
    """None: closed."""
    openings: int = 0
    """Since the last good answer."""
    fault: Fault = Fault.AWAY
    """The last one."""
    rest_until_s: float = 0.0


def standing(breaker: Breaker, now_s: float) -> Standing:
    """Return whether requests pass at `now_s`."""
    if breaker.open_until_s is not None:
        return Standing.OPEN if now_s < breaker.open_until_s else Standing.HALF_OPEN
    return Standing.RESTING if now_s < breaker.rest_until_s else Standing.CLOSED


def succeeded(breaker: Breaker, now_s: float) -> Breaker:
    """Return what is remembered after a good answer."""
    return Breaker(outcomes=_noted(breaker, now_s, went_well=True))


def failed(breaker: Breaker, fault: Fault, now_s: float) -> Breaker:
    """Return what is remembered after a request that failed in the way of `fault`."""
    outcomes = _noted(breaker, now_s, went_well=False)
    after = replace(breaker, failures=breaker.failures + 1, outcomes=outcomes, fault=fault)
    if standing(breaker, now_s) is Standing.OPEN:
        return after  # of a request that was under way when it opened
    was_trial = breaker.open_until_s is not None
    num_failed = sum(not went_well for _, went_well in outcomes)
    is_share_bad = len(outcomes) >= LEAST_OUTCOMES and num_failed >= MOST_FAILED_SHARE * len(
        outcomes
    )
    if not (was_trial or after.failures >= OPEN_AFTER or is_share_bad):
        return after
    hold_s = min(LONGEST_HOLD_S, FIRST_HOLD_S * 2.0 ** min(breaker.openings, 62))
    return replace(after, open_until_s=now_s + hold_s, openings=breaker.openings + 1)


def rested(breaker: Breaker, now_s: float, *, asked_s: float | None, chance: float) -> Breaker:
    """Return what is remembered after "busy": no failure, but it is left alone for a while.

    `asked_s` is what it asked for; `chance` is drawn from [0, 1).
    """
    own_s = LEAST_REST_S + (LONGEST_OWN_REST_S - LEAST_REST_S) * chance
    rest_s = own_s if asked_s is None else min(asked_s, LONGEST_REST_S)
    return replace(breaker, rest_until_s=max(breaker.rest_until_s, now_s + rest_s))


def probed(breaker: Breaker, now_s: float, *, is_well: bool) -> Breaker:
    """Return what is remembered after a probe."""
    if not is_well and breaker.open_until_s is not None:
        # Who is known to be away need not be tried with a request.
        until_s = max(breaker.open_until_s, now_s + FIRST_HOLD_S)
        return replace(breaker, fault=Fault.AWAY, open_until_s=until_s)
    if not is_well:
        return failed(breaker, Fault.AWAY, now_s)
    if breaker.fault is Fault.AWAY:
        return replace(breaker, failures=0, outcomes=(), open_until_s=None)
    return breaker


def _noted(breaker: Breaker, now_s: float, *, went_well: bool) -> tuple[tuple[float, bool], ...]:
    recent = (outcome for outcome in breaker.outcomes if outcome[0] > now_s - WINDOW_S)
    return (*recent, (now_s, went_well))[-MOST_OUTCOMES:]
