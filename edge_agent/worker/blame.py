"""Remembers which requests were running when the engine died, by what they ask, not by their id.

A request that kills the engine would do so again under another id, from another client.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from edge_agent.messages import Request

if TYPE_CHECKING:
    from collections.abc import Iterable

# 32 bytes of digest and a count each: far below a megabyte, and far more than one gateway's
# recurring prompts.
REMEMBERED = 1024
# Who asks, how and where the answer may come from, and what happens afterwards.
_NOT_COMPUTED = (
    "id", "model", "stream", "deadline_s", "policy", "priority", "client", "keep_alive_s",
    "hops",
)  # fmt: skip


def fingerprint(request: Request) -> bytes:
    """Return the sha256 of everything that decides what the engine computes for `request`."""
    plain = Request(id="", messages=request.messages)
    asked = structs.replace(request, **{name: getattr(plain, name) for name in _NOT_COMPUTED})
    return hashlib.sha256(msgspec.msgpack.encode(asked)).digest()


class Blame:
    """Crashes per fingerprint, the least recently blamed forgotten first."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._crashes: OrderedDict[bytes, int] = OrderedDict()

    def crashes(self, mark: bytes) -> int:
        """Return in how many crashes a request with fingerprint `mark` was running."""
        return self._crashes.get(mark, 0)

    def crashed(self, marks: Iterable[bytes]) -> None:
        """Count one crash for each of `marks`; two equal requests in one crash count once."""
        for mark in set(marks):
            self._crashes[mark] = self._crashes.pop(mark, 0) + 1
        while len(self._crashes) > self._remembered:
            self._crashes.popitem(last=False)

    def answered(self, mark: bytes) -> None:
        """Forget the crashes of `mark`: it was a neighbour, not the cause."""
        self._crashes.pop(mark, None)
