"""Speed of several streams together. Arithmetic on times: no clock, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Arrival = tuple[float, float]
"""When tokens of a stream came, in seconds, and how many."""


def together_tok_s(streams: Sequence[Sequence[Arrival]]) -> float:
    """Return tokens per second of all streams in the time in which every one of them decodes.

    That time begins with the last stream's first token and ends with the first stream's last.

    Raises:
        ValueError: there is no such time.
    """
    begin_s = max(stream[0][0] for stream in streams)
    end_s = min(stream[-1][0] for stream in streams)
    if end_s <= begin_s:
        msg = "the streams never decoded at once"
        raise ValueError(msg)
    tokens = sum(count for stream in streams for at, count in stream if begin_s < at <= end_s)
    return tokens / (end_s - begin_s)


def counted(times: Sequence[float], tokens: int) -> list[Arrival]:
    """Spread `tokens` evenly over what came at `times`, where pieces do not tell their number."""
    return [(at, tokens / len(times)) for at in times]
