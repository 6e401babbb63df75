"""Variables of the environment over the tree of a file, and to which of both a mistake is owed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edge_agent.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Between what msgspec says is wrong and where; of the whole it says no place.
_AT = " - at `$"


class Variable(NamedTuple):
    """A key that the environment sets."""

    name: str
    key: str
    """Of the configuration, dotted."""
    value: object


def laid_over(file: Mapping[str, Any], variables: Sequence[Variable]) -> dict[str, Any]:
    """Return the tree `file` with the keys of `variables` set; `file` stays as it is."""
    tree = copy.deepcopy(dict(file))
    for variable in variables:
        _insert(tree, variable.key, variable.value)
    return tree


def origin(problem: str, path: str, file: Mapping[str, Any], variables: Sequence[Variable]) -> str:
    """Return where to mend `problem`, which msgspec has with `variables` over `file` from `path`.

    What one key gets wrong belongs to whoever sets that key. What only several keys can belongs to
    the variables without which it would be right, and to the file too if it has a part in it.
    """
    place = problem.rpartition(_AT)[2].rstrip("`").lstrip(".") if _AT in problem else ""
    if own := [each for each in variables if _is_within(place, each.key)]:
        return _names(own)
    near = [each for each in variables if _is_within(each.key, place)]
    guilty = [
        each
        for each in near
        if _problem(file, [other for other in variables if other != each]) != problem
    ]
    if not guilty and _problem(file, [each for each in variables if each not in near]) != problem:
        guilty = near  # each of them alone would do
    if not guilty:
        return path
    return _names(guilty) if _problem({}, variables) == problem else f"{_names(guilty)} over {path}"


def _insert(tree: dict[str, Any], dotted: str, value: object) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        if tree.get(parent) is None:  # not there, or a section without keys
            tree[parent] = {}
        section: object = tree[parent]
        if not isinstance(section, dict):
            return  # the file is wrong here, and the check of the whole will say so
        tree = section
    tree[leaf] = value


def _is_within(place: str, key: str) -> bool:
    """Return whether `place` is `key`, or a part of what stands there; of `""` everything is."""
    return not key or place == key or place.startswith((f"{key}.", f"{key}["))


def _problem(file: Mapping[str, Any], variables: Sequence[Variable]) -> str | None:
    try:
        msgspec.convert(laid_over(file, variables), Config)
    except msgspec.ValidationError as exc:
        return str(exc)
    return None


def _names(variables: Sequence[Variable]) -> str:
    return f"environment {', '.join(each.name for each in variables)}"
