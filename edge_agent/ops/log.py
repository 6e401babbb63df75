"""How a log line looks: words first, then key=value, or the same as one JSON object.

Call sites write `logger.info("request done id=%s new_tokens=%d", …)`; the JSON form takes the keys
from that template. Prompts and answers are never logged, by nobody.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELD = re.compile(r"(\w+)=%[-+.\d]*[sdrfgx]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ROOT = "edge_agent"


def set_up(
    level: str, style: Literal["text", "json"], environ: Mapping[str, str] = os.environ
) -> None:
    """Send the records of this process to stderr from `level` on, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    # Under systemd the journal stamps every line itself.
    handler.setFormatter(Json() if style == "json" else Text(stamp="JOURNAL_STREAM" not in environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries speak up only when something is wrong
    logging.getLogger(_ROOT).setLevel(level.upper())


class Text(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO router request done id=7 new_tokens=12`."""

    def __init__(self, *, stamp: bool) -> None:
        super().__init__()
        self._stamp = stamp

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line, followed by its trace if it has one."""
        stamp = f"{_time(record)} " if self._stamp else ""
        name = record.name.rpartition(".")[2]
        line = f"{stamp}{record.levelname} {name} {_visible(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Json(logging.Formatter):
    """One object a line: time, level, logger, message, and every key of the template."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line of JSON."""
        words, fields = _fields(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": words,
            **fields,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Split a record into its words and its fields; all words when the template has others."""
    template = str(record.msg)
    keys = _FIELD.findall(template)
    args = record.args
    if not isinstance(args, tuple) or not template.count("%") == len(keys) == len(args) > 0:
        return record.getMessage(), {}
    values = (arg if isinstance(arg, int | float | None) else str(arg) for arg in args)
    return _FIELD.split(template)[0].strip(), dict(zip(keys, values, strict=True))


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _visible(text: str) -> str:
    """Escape what could end a line or steer a terminal: ids come from strangers."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
