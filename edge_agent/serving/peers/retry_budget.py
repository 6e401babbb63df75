"""Decides whether a request may be tried again. Arithmetic on plain values: time is an argument.

Retries that are a fixed share of requests cannot multiply a storm: a site whose peers all answer
503 makes 1.1 calls per request, not as many as there are peers.
"""

from __future__ import annotations

WINDOW_S = 60
SHARE = 0.1
# A house with a request a minute may retry each of them.
LEAST_PER_WINDOW = 3


class RetryBudget:
    """Counts the requests and retries of the last minute, second by second."""

    def __init__(self) -> None:
        self._requests: dict[int, int] = {}
        self._retries: dict[int, int] = {}

    def note_request(self, now_s: float) -> None:
        """Count a request."""
        _count(self._requests, now_s)

    def take(self, now_s: float) -> bool:
        """Count a retry if there is room for one, and return whether there was."""
        requests, retries = _sum(self._requests, now_s), _sum(self._retries, now_s)
        if retries + 1 > max(LEAST_PER_WINDOW, SHARE * requests):
            return False
        _count(self._retries, now_s)
        return True


def _count(seconds: dict[int, int], now_s: float) -> None:
    second = int(now_s)
    seconds[second] = seconds.get(second, 0) + 1


def _sum(seconds: dict[int, int], now_s: float) -> int:
    for second in [second for second in seconds if second <= now_s - WINDOW_S]:
        del seconds[second]
    return sum(seconds.values())
