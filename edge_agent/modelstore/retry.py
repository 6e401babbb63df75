"""When to ask a server again: pure arithmetic, and the reading of its `Retry-After`."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

# Too many requests, and what a proxy or a server says on its bad days.
TRANSIENT_STATUS = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to go on with a server that fails: pauses double up to a limit, then it is over."""

    # Six tries span half a minute: longer than a router takes to come back to its senses.
    tries: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0
    # A server that asks for more is asked again by the next run, hours later.
    longest_asked_s: float = 120.0

    def pause_s(self, failures: int, asked_s: float | None) -> float | None:
        """Return the seconds to wait after `failures` in a row; None means to give up.

        `asked_s` is what the server asked for, if it did.
        """
        if failures >= self.tries or (asked_s is not None and asked_s > self.longest_asked_s):
            return None
        own_s = min(self.longest_s, self.first_s * 2.0 ** (failures - 1))
        return own_s if asked_s is None else max(own_s, asked_s)


def asked_s(header: str | None, now_s: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None where it says nothing clear.

    `now_s` is the time since the epoch; the header may name a date (RFC 9110, 10.2.3).
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
