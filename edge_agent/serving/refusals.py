"""Puts a refusal into words: each says what is missing, in numbers, and when to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.errors import (
    Draining,
    EdgeError,
    Loading,
    NoRoom,
    Overloaded,
    Pressure,
    PromptTooLong,
    Unavailable,
)
from edge_agent.guard.reading import Level
from edge_agent.ops.health import State
from edge_agent.serving.admission import Reason, is_over_cap, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.serving.admission import House, Load, Need, Rules


# A service manager brings a stopped daemon back within seconds, if at all.
DRAINING_RETRY_S = 5.0
# A crashed engine is back within seconds; a model that does not load will not in a second either.
SOON_S = 5.0
LATER_S = 60.0
# Peers are probed this often; one that is back is found then.
PEER_RETRY_S = 15.0
# The guard wants memory to be free for half a minute before it lets work in again.
PRESSURE_RETRY_S = 30.0
# A lowered context is lowered for ten minutes at least, of which half have passed on average.
LOWERED_RETRY_S = 300.0


def refusal(reason: Reason, load: Load, need: Need, rules: Rules) -> EdgeError:
    """Return the error of a request that is refused for `reason`, where no peer could help."""
    make = _ERRORS.get(reason)
    if make is not None:
        return make(load, need, rules)
    if load.house.state is State.FAILED:
        return Loading(load.house.detail, LATER_S)
    detail = load.house.detail
    return Unavailable("no model is served here" + (f": {detail}" if detail else ""), LATER_S)


def unavailable(error: EdgeError, peers_problem: str) -> Unavailable:
    """Return the refusal where neither the engine nor a peer can answer."""
    own = str(error).partition("; retry in")[0]
    after_s = min(error.retry_after_s or SOON_S, PEER_RETRY_S)
    return Unavailable(f"{own}, and {peers_problem}", after_s)


def _queue(load: Load) -> str:
    return (
        f"{load.open_requests} requests ({load.open_bytes} bytes of prompts) "
        "are being answered or wait, the limit"
    )


def _pressure(load: Load, need: Need) -> Pressure:
    house, cap = load.house, load.house.cap_tokens
    if house.level is Level.HARD and is_over_cap(house, need):
        sentence = (
            f"memory is short (level hard): until it has recovered the context is {cap} tokens, "
            f"not {house.context_tokens}, and the request needs about {need.tokens}"
        )
        return Pressure(sentence, LOWERED_RETRY_S)
    return Pressure(_short(house, need), PRESSURE_RETRY_S)


def _short(house: House, need: Need) -> str:
    needed, room = need.needed_bytes, house.room_bytes
    if needed is not None and room is not None and needed > room:
        return f"memory is short: the request needs {_mb(needed)}, there is room for {_mb(room)}"
    return f"memory is short (level {house.level.name.lower()})"


def _too_large(load: Load, need: Need) -> EdgeError:
    house = load.house
    context = house.context_tokens
    if context is not None and need.least_tokens >= context:
        return PromptTooLong(need.least_tokens, context - 1, is_least=True)
    return NoRoom(need.needed_bytes or 0, house.most_bytes or 0, need.fits_tokens)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.0f} MB"


# Other reasons are none to refuse for; they lead here where no model can be served.
_ERRORS: dict[Reason, Callable[[Load, Need, Rules], EdgeError]] = {
    Reason.DRAINING: lambda *_: Draining("the daemon is going down", DRAINING_RETRY_S),
    Reason.QUEUE: lambda load, _, rules: Overloaded(
        _queue(load), retry_after_s(rules, load.pace_s)
    ),
    Reason.TOO_LARGE: lambda load, need, _: _too_large(load, need),
    Reason.PRESSURE: lambda load, need, _: _pressure(load, need),
}
