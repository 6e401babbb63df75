"""Decides where a request runs. Arithmetic on plain values: no clock, no I/O, no logging."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Literal

from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import State

if TYPE_CHECKING:
    from edge_agent.config import Config

# A client that comes back sooner finds the same queue; one told to wait longer gives up.
LEAST_RETRY_S = 1.0
LONGEST_RETRY_S = 120.0
# The newest answer counts a fifth: five or so answers later the estimate has forgotten a change
# of the usual length of prompts.
PACE_WEIGHT = 0.2


class Place(Enum):
    """Where a request goes."""

    HERE = auto()
    """To the engine, which has a slot for it."""
    WAIT = auto()
    """To the engine, or to its door, until a slot, the model or memory is there."""
    PEER = auto()
    REFUSE = auto()


class Reason(StrEnum):
    """Why it goes there: a stable word that answers, logs and metrics repeat."""

    LOCAL = "local"
    """The engine can take it: nothing speaks against that."""
    PRESSURE = "pressure"
    UNLOADED = "unloaded"
    LOADING = "loading"
    CRASHED = "crashed"
    QUEUE = "queue"
    DEADLINE = "deadline"
    NO_LOCAL_MODEL = "no-local-model"
    PREFER_PEER = "prefer-peer"
    LONG_PROMPT = "long-prompt"
    TOO_LARGE = "too-large"
    PEER_FAILED = "peer-failed"
    DRAINING = "draining"


# While memory is HARD, what begins may be so much of the context: what can still grow is what the
# level has to fear, and a large request would be the next to give way.
HARD_CONTEXT_SHARE = 0.25

# What a request waits for in these states; in the others the engine is there, or will not be.
_WAITS_FOR = {
    State.PREPARING: Reason.LOADING,
    State.LOADING: Reason.LOADING,
    State.UNLOADING: Reason.UNLOADED,
    State.UNLOADED: Reason.UNLOADED,
    State.RESTARTING: Reason.CRASHED,
}

Fallback = Literal["never", "auto", "prefer-peer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator wants."""

    slots: int
    queue_requests: int
    queue_bytes: int
    """Most bytes of prompts that may be inside."""
    fallback: Fallback
    policy: Policy
    """Of requests that name none."""
    max_local_wait_s: float | None
    min_prompt_tokens_for_peer: int | None

    @classmethod
    def of(cls, config: Config) -> Rules:
        """Return what `config` says."""
        return cls(
            slots=config.engine.slots,
            queue_requests=config.engine.queue_requests,
            queue_bytes=config.engine.queue_bytes,
            fallback=config.routing.fallback,
            policy=Policy(config.routing.policy),
            max_local_wait_s=config.routing.max_local_wait_s,
            min_prompt_tokens_for_peer=config.routing.min_prompt_tokens_for_peer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The engine and its memory; None is what nobody can tell (yet)."""

    state: State
    level: Level
    detail: str = ""
    """A sentence about the state."""
    room_bytes: int | None = None
    """What a request that starts now may take."""
    most_bytes: int | None = None
    """What a request may take when it is alone."""
    context_tokens: int | None = None
    may_begin: bool = False
    """New work may begin, though the level is not back at CALM."""

    @property
    def cap_tokens(self) -> int | None:
        """Prompt and answer together, at most, while memory is HARD; None if that is the context.

        It counts for what is still to begin: an answer that runs keeps what it was promised.
        """
        if self.level < Level.HARD or self.context_tokens is None:
            return None
        return max(1, int(self.context_tokens * HARD_CONTEXT_SHARE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the house looks like to somebody at the door."""

    house: House
    open_requests: int
    """Requests for the engine: running, waiting for a slot, waiting at its door."""
    open_bytes: int
    """Bytes of their prompts."""
    pace_s: float | None
    """Usual time of one answer of the engine; None before the first."""
    is_draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a request asks for."""

    prompt_bytes: int
    least_tokens: int
    """Its prompt has at least so many tokens, however it is cut."""
    likely_tokens: int
    needed_bytes: int | None
    """Memory it will take; None if that cannot be told."""
    policy: Policy
    left_s: float | None = None
    """Until its deadline."""
    num_peers: int = 0
    """Peers that may and can answer it now."""
    tokens: int = 0
    """Of prompt and answer together, as far as can be told; `needed_bytes` is for these."""
    prompt_memory_bytes: int = 0
    """The part of `needed_bytes` that is taken when the prompt has been read."""
    fits_tokens: int = 0
    """Tokens of prompt and answer that would fit into all the memory there is."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes, and why."""

    place: Place
    reason: Reason


def place(load: Load, need: Need, rules: Rules) -> Decision:
    """Return where a request runs."""
    if load.is_draining:
        return Decision(Place.REFUSE, Reason.DRAINING)
    here = _without_peers(load, need, rules)
    may_leave = need.policy is not Policy.LOCAL and rules.fallback != "never"
    if may_leave and need.num_peers > 0:
        reason = _reason_to_leave(here, load, need, rules)
        if reason is not None:
            return Decision(Place.PEER, reason)
    return here


def _without_peers(load: Load, need: Need, rules: Rules) -> Decision:
    """Return what becomes of a request if only the engine can answer it."""
    house = load.house
    if house.state in {State.FAILED, State.RELAY}:
        return Decision(Place.REFUSE, Reason.NO_LOCAL_MODEL)
    if can_never_fit(house, need):
        return Decision(Place.REFUSE, Reason.TOO_LARGE)
    is_critical = house.level is Level.CRITICAL or house.state is State.HELD
    # HARD is kept for longer than anybody waits, so what is too large for it is told at once.
    if is_critical or is_over_cap(house, need):
        return Decision(Place.REFUSE, Reason.PRESSURE)
    is_full = load.open_requests >= rules.slots + rules.queue_requests
    # One that is alone may be of any size that the wires let pass.
    is_heavy = load.open_requests > 0 and load.open_bytes + need.prompt_bytes > rules.queue_bytes
    if is_full or is_heavy:
        return Decision(Place.REFUSE, Reason.QUEUE)
    return _at_the_engine(load, need, rules)


def can_never_fit(house: House, need: Need) -> bool:
    """Return whether the engine could not answer this even with the house to itself."""
    # One token of the context is kept for the answer.
    is_long = house.context_tokens is not None and need.least_tokens >= house.context_tokens
    return is_long or _is_over(need.needed_bytes, house.most_bytes)


def is_over_cap(house: House, need: Need) -> bool:
    """Return whether this is too large to begin while memory is HARD."""
    return _is_over(need.tokens, house.cap_tokens)


def _at_the_engine(load: Load, need: Need, rules: Rules) -> Decision:
    house = load.house
    is_closed = house.level >= Level.SOFT and not house.may_begin
    if is_closed or _is_over(need.needed_bytes, house.room_bytes):
        return Decision(Place.WAIT, Reason.PRESSURE)
    reason = _WAITS_FOR.get(house.state)
    if reason is not None:
        return Decision(Place.WAIT, reason)
    if load.open_requests < rules.slots:
        return Decision(Place.HERE, Reason.LOCAL)
    return Decision(Place.WAIT, Reason.QUEUE)


def _reason_to_leave(here: Decision, load: Load, need: Need, rules: Rules) -> Reason | None:
    """Return why a peer should answer what would go `here` otherwise; None if it should not."""
    if here.place is Place.REFUSE or here.reason not in {Reason.LOCAL, Reason.QUEUE}:
        return here.reason
    least_tokens, most_s = rules.min_prompt_tokens_for_peer, rules.max_local_wait_s
    wait_s = expected_wait_s(load.open_requests, load.pace_s, rules.slots)
    reasons = (
        (Reason.PREFER_PEER, rules.fallback == "prefer-peer"),
        (Reason.LONG_PROMPT, least_tokens is not None and need.likely_tokens >= least_tokens),
        (Reason.QUEUE, most_s is not None and wait_s > most_s),
        (
            Reason.DEADLINE,
            need.left_s is not None and wait_s + (load.pace_s or 0.0) > need.left_s,
        ),
    )
    return next((reason for reason, holds in reasons if holds), None)


def _is_over(needed: int | None, limit: int | None) -> bool:
    return needed is not None and limit is not None and needed > limit


def next_pace_s(pace_s: float | None, answer_s: float) -> float:
    """Return the usual time of one answer, now that one more took `answer_s`."""
    return answer_s if pace_s is None else pace_s + PACE_WEIGHT * (answer_s - pace_s)


def expected_wait_s(before: int, pace_s: float | None, slots: int) -> float:
    """Return when a request with so many open `before` it gets a slot; 0 without a pace.

    Slots come free one after the other: with all taken, the first in line waits for one of
    `slots` answers, each somewhere in its `pace_s`.
    """
    in_line = max(0, before - slots + 1)
    return (pace_s or 0.0) * in_line / slots


def retry_after_s(rules: Rules, pace_s: float | None) -> float:
    """Return when a refused client finds half of the queue gone, at `pace_s` a request.

    One free place would be taken by whoever else was refused; without a measured pace it is the
    least there is.
    """
    rounds = (rules.queue_requests / 2) / rules.slots
    return min(LONGEST_RETRY_S, max(LEAST_RETRY_S, (pace_s or 0.0) * rounds))
