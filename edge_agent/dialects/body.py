"""JSON bodies from strangers: decoded within bounds, read field by field, every problem named.

Lenient about names it does not know, strict about the values of those it does. Pure: bytes and
limits in, plain values out. Paths in errors are dotted, as in `messages[2].content`.
"""

from __future__ import annotations

import json
import math
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from edge_agent.errors import InvalidRequest, TooLarge
from edge_agent.messages import Policy, Priority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.config import Limits

EnumT = TypeVar("EnumT", bound=StrEnum)

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1

# Digits of the longest int64 with its sign; a longer literal cannot be one.
_INT64_CHARS = 20
# A path repeats names that a stranger chose; an error stays a sentence.
_PATH_CHARS = 200
_SURROGATE = re.compile("[\\ud800-\\udfff]")

_KINDS: dict[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a string",
    type(None): "null",
}


def decode(raw: bytes, limits: Limits) -> dict[str, Any]:
    """Return the JSON object in `raw`.

    Raises:
        InvalidRequest: not UTF-8, not JSON, not an object, nested deeper than
            `limits.max_json_depth`, or holding a number that is not finite or beyond 64 bits.
    """
    if not raw.strip():
        raise InvalidRequest("the body is empty; expected a JSON object")
    try:
        value = json.loads(raw.decode("utf-8"), parse_int=_int)
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the body is not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise InvalidRequest(f"the body is not JSON: {exc.msg} at character {exc.pos}") from exc
    except RecursionError as exc:
        raise _too_deep("the body", limits) from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is {kind(value)}; expected a JSON object")
    _check_tree(value, limits)
    return value


def kind(value: object) -> str:
    """Return what `value` is called in JSON."""
    return _KINDS.get(type(value), type(value).__name__)


class Fields:
    """One JSON object and where it stands; reads its fields with their types and bounds.

    Every reader returns `None` for a field that is absent or null: clients send both.
    """

    def __init__(self, values: dict[str, Any], where: str = "") -> None:
        self._values = values
        self._where = where

    def path(self, name: str) -> str:
        """Return the dotted path of field `name`."""
        return f"{self._where}.{name}" if self._where else name

    def value(self, name: str) -> object:
        """Return the field as it came."""
        return self._values.get(name)

    def values(self) -> dict[str, Any]:
        """Return the whole object as it came."""
        return self._values

    def text(self, name: str, *, most_chars: int | None = None) -> str | None:
        """Return a string of at most `most_chars` characters."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._mistyped(name, "a string")
        if most_chars is not None and len(value) > most_chars:
            raise TooLarge(self.path(name), len(value), most_chars, "characters")
        return value

    def flag(self, name: str) -> bool | None:
        """Return a boolean."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._mistyped(name, "a boolean")
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        """Return a whole number within bounds; `3.0` is one, `true` is not."""
        value = self._values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._mistyped(name, "a whole number")
        if not least <= value <= most:
            raise InvalidRequest(f"{value} is outside {least} to {most}", self.path(name))
        return value

    def number(
        self, name: str, *, least: float, most: float, least_included: bool = True
    ) -> float | None:
        """Return a number within bounds; booleans are not numbers."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._mistyped(name, "a number")
        if not least <= value <= most or (value == least and not least_included):
            low = f"at least {least:g}" if least_included else f"above {least:g}"
            problem = f"{value:.12g} is not {low} and at most {most:g}"
            raise InvalidRequest(problem, self.path(name))
        return float(value)

    def items(self, name: str) -> list[Any] | None:
        """Return a list."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, list):
            raise self._mistyped(name, "a list")
        return value

    def object(self, name: str) -> Fields | None:
        """Return an object, as fields of its own."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._mistyped(name, "an object")
        return Fields(value, self.path(name))

    def missing(self, name: str) -> InvalidRequest:
        """Return the error for a field that must be there."""
        return InvalidRequest("is required", self.path(name))

    def _mistyped(self, name: str, expected: str) -> InvalidRequest:
        found = kind(self._values[name])
        return InvalidRequest(f"expected {expected}, found {found}", self.path(name))


def element(values: list[Any], index: int, where: str) -> Fields:
    """Return `values[index]`, which must be an object, as the fields of `where[index]`."""
    path = f"{where}[{index}]"
    value = values[index]
    if not isinstance(value, dict):
        raise InvalidRequest(f"expected an object, found {kind(value)}", path)
    return Fields(value, path)


def stop_strings(fields: Fields, limits: Limits) -> tuple[str, ...]:
    """Return field `stop`: a string or a list of strings, none empty, within `limits`."""
    value = fields.value("stop")
    if value is None:
        return ()
    path = fields.path("stop")
    stops = [value] if isinstance(value, str) else fields.items("stop") or []
    if len(stops) > limits.max_stop_strings:
        raise TooLarge(path, len(stops), limits.max_stop_strings, "stop strings")
    for index, stop in enumerate(stops):
        at = path if isinstance(value, str) else f"{path}[{index}]"
        if not isinstance(stop, str):
            raise InvalidRequest(f"expected a string, found {kind(stop)}", at)
        if not stop:
            raise InvalidRequest("must not be empty", at)
        if len(stop) > limits.max_stop_chars:
            raise TooLarge(at, len(stop), limits.max_stop_chars, "characters")
    return tuple(stops)


def seed(fields: Fields) -> int | None:
    """Return field `seed` as a 64-bit number without sign; -1 asks for a random one, as in vLLM."""
    value = fields.integer("seed", least=INT64_MIN, most=INT64_MAX)
    return None if value is None or value == -1 else value % (1 << 64)


def deadline_s(fields: Fields, limits: Limits) -> float | None:
    """Return field `deadline_s`, seconds from the receipt of the request."""
    return fields.number("deadline_s", least=0, most=limits.max_deadline_s, least_included=False)


def policy(fields: Fields) -> Policy | None:
    """Return field `policy`: how far the prompt may travel."""
    return _member(fields, "policy", Policy)


def priority(fields: Fields) -> Priority:
    """Return field `priority`: a name, or vLLM's number, of which smaller is sooner and 0 usual."""
    value = fields.value("priority")
    if isinstance(value, int) and not isinstance(value, bool):
        return Priority.NORMAL if value == 0 else Priority.HIGH if value < 0 else Priority.LOW
    return _member(fields, "priority", Priority) or Priority.NORMAL


def _member(fields: Fields, name: str, kind_: type[EnumT]) -> EnumT | None:
    text = fields.text(name)
    if text is None:
        return None
    try:
        return kind_(text)
    except ValueError:
        names = ", ".join(kind_)
        raise InvalidRequest(f"must be one of {names}", fields.path(name)) from None


def _int(literal: str) -> int | float:
    return int(literal) if len(literal) <= _INT64_CHARS else math.inf


def _check_tree(root: dict[str, Any], limits: Limits) -> None:
    """Look at every value once, without recursion: the depth is what is being checked."""
    open_containers = [_entries(root)]
    steps: list[str | int] = []
    while open_containers:
        step, value = next(open_containers[-1], (None, None))
        if step is None:
            open_containers.pop()
            del steps[-1:]
        elif problem := _problem(value) or _problem(step):
            raise InvalidRequest(problem, _path([*steps, step]))
        elif isinstance(value, dict | list):
            steps.append(step)
            if len(steps) >= limits.max_json_depth:
                raise _too_deep(_path(steps), limits)
            open_containers.append(_entries(value))


def _entries(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str | int, object]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _problem(value: object) -> str | None:
    """Return what is wrong with a single value, wherever it stands."""
    match value:
        case bool() | None:
            return None
        case int() if not INT64_MIN <= value <= INT64_MAX:
            return "the number is beyond 64 bits"
        case float() if not math.isfinite(value):
            return "the number is not finite or has too many digits"
        # JSON can escape half of a surrogate pair, which no UTF-8 can carry.
        case str() if not value.isascii() and _SURROGATE.search(value):
            return "holds half of a surrogate pair"
        case _:
            return None


def _path(steps: list[str | int]) -> str:
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]
    path = "".join(parts).removeprefix(".").encode("utf-8", "replace").decode()
    return path if len(path) <= _PATH_CHARS else f"{path[:_PATH_CHARS]}…"


def _too_deep(where: str, limits: Limits) -> InvalidRequest:
    return InvalidRequest(f"nested deeper than {limits.max_json_depth} levels", where)
