"""How long a request wants the model to stay loaded: seconds, or Ollama's durations as in Go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_agent.errors import InvalidRequest

if TYPE_CHECKING:
    from edge_agent.dialects.body import Fields

FOREVER_S = -1.0
MOST_S = 7 * 86400.0

# time.ParseDuration of Go: a sign, then numbers with units; "0" needs none.
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MOST_CHARS = 32


def keep_alive_s(fields: Fields) -> float | None:
    """Return field `keep_alive` in seconds; negative is for ever, 0 is not at all.

    Raises:
        InvalidRequest: it is neither a number nor a duration, or longer than `MOST_S`.
    """
    if not isinstance(fields.value("keep_alive"), str):
        seconds = fields.number("keep_alive", least=-float("inf"), most=MOST_S)
    else:
        seconds = _seconds(fields.text("keep_alive", most_chars=_MOST_CHARS) or "", fields)
    return FOREVER_S if seconds is not None and seconds < 0 else seconds


def _seconds(text: str, fields: Fields) -> float:
    path = fields.path("keep_alive")
    bare = text.lstrip("+-")
    parts = _PART.findall(bare)
    is_whole = bare == "".join(number + unit for number, unit in parts)
    if len(text) - len(bare) > 1 or (not (is_whole and parts) and bare != "0"):
        raise InvalidRequest('expected seconds, or a duration such as "5m" or "1h30m"', path)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds > MOST_S and text[0] != "-":
        raise InvalidRequest(f"{text} is longer than {MOST_S:g} s", path)
    return -seconds if text[0] == "-" else seconds
