"""JSON from strangers: bounded, without duplicate keys, always an object at the top."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from edge_agent.errors import ModelError


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object that `data` is, which `where` names in errors.

    The caller bounds the size of `data`; what is built from it is then bounded too, about a hundred
    times as large at worst (a list of empty objects).

    Raises:
        ModelError: not UTF-8, not JSON, no object, nested too deeply, a key comes twice, or a
            number is infinity, NaN, or thousands of digits long.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_refuse
        )
    except RecursionError as exc:
        msg = f"{where}: nested too deeply"
        raise ModelError(msg) from exc
    except ValueError as exc:  # covers UnicodeDecodeError and JSONDecodeError
        msg = f"{where}: not the JSON that is expected: {exc}"
        raise ModelError(msg) from exc
    if not isinstance(value, dict):
        msg = f"{where}: no JSON object"
        raise ModelError(msg)
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        [(twin, _)] = Counter(key for key, _ in pairs).most_common(1)
        msg = f"the key {twin!r} comes twice"
        raise ValueError(msg)
    return built


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no JSON number"
    raise ValueError(msg)
