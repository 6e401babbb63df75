"""Counts what was computed for each client, for fair shares. Pure bookkeeping.

After the virtual token counter of Sheng et al., Fairness in Serving Large Language Models (2024):
who comes back after a rest begins where the least served of those that are there stand, so that
nobody saves up a claim to all slots by keeping quiet.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A few hundred kilobytes; beyond, who leaves is forgotten.
_MOST_CLIENTS = 1024


class Shares:
    """Clients with open requests and, while any are open, those that were here before."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._served: dict[str, float] = {}

    @property
    def served(self) -> Mapping[str, float]:
        """Tokens by client, those that it was advanced included."""
        return self._served

    def arrive(self, client: str) -> None:
        """Count a request of `client` that begins."""
        if client not in self._open:
            least = min((self._served[other] for other in self._open), default=0.0)
            self._served[client] = max(self._served.get(client, 0.0), least)
        self._open[client] += 1

    def charge(self, client: str, tokens: int) -> None:
        """Count `tokens` that were computed for `client`, which has an open request."""
        self._served[client] += tokens

    def leave(self, client: str) -> None:
        """Count a request of `client` that is over."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]
            if len(self._served) > _MOST_CLIENTS:
                del self._served[client]
        if not self._open:
            self._served.clear()  # nobody is left to be fair to
