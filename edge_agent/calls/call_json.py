"""What counts as a tool call in JSON: a known name, arguments that are an object, nothing else."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection

# Models trained on schemas write the second name for what they call with.
_ARGUMENTS = ("arguments", "parameters")
_KEYS = tuple(f'"{key}"' for key in ("name", *_ARGUMENTS))
_NUM_KEYS = 2
_FIRST_KEY = re.compile(rf"\{{\s*({'|'.join(_KEYS)})\s*:\s*")


def read_calls(text: str, names: Collection[str]) -> list[tuple[str, str]]:
    """Return the calls that JSON value `text` holds: names, and arguments as JSON text.

    The value is an object, or a string that holds the JSON of one or of a list of them. If any of
    it is no call of a tool in `names`, none of it is.
    """
    try:
        value = _load(text)
        if isinstance(value, str):
            value = _load(value)
        entries = value if isinstance(value, list) else [value]
        calls = [_read_call(entry, names) for entry in entries]
    except (ValueError, RecursionError):
        return []
    found = [call for call in calls if call]
    return found if len(found) == len(entries) else []


def may_be_call(text: str, names: Collection[str]) -> bool:
    """Return whether `text`, which begins with `{`, may go on as a call of a tool in `names`."""
    first = _FIRST_KEY.match(text)
    if first is None:
        key = text[1:].strip()
        return any(known.startswith(key) for known in _KEYS)
    if first[1] != _KEYS[0]:
        return True
    value = text[first.end() :]
    quoted = (json.dumps(name, ensure_ascii=False) for name in names)
    return any(name.startswith(value) or value.startswith(name) for name in quoted)


def _read_call(entry: object, names: Collection[str]) -> tuple[str, str] | None:
    if not isinstance(entry, dict) or len(entry) != _NUM_KEYS:
        return None
    name = entry.get("name")
    arguments = next((entry[key] for key in _ARGUMENTS if key in entry), None)
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    text.encode()  # half of a surrogate pair cannot go over any wire
    return name, text


def _load(text: str) -> object:
    """Return a JSON value; line breaks inside strings are let pass, as models write them."""
    value: object = json.loads(text, strict=False, parse_constant=_refuse)
    return value


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is not JSON"
    raise ValueError(msg)
