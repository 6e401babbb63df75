"""The configuration read: YAML, then the environment over it, then every check."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from msgspec import Struct

from edge_agent.config.knobs import knobs
from edge_agent.config.origin import Variable, laid_over, origin
from edge_agent.config.settings import Config
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_FILE = Path("/etc/edge-agent/edge-agent.yaml")
ENV_PREFIX = "EDGE_AGENT_"
# Variables with the prefix that are not configuration keys.
ENV_RESERVED = {"EDGE_AGENT_HOME", "EDGE_AGENT_CONFIG"}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration from `path` (else the default file, if there) and the environment.

    Raises:
        ConfigError: unreadable file, bad YAML, unknown key, wrong type or out of range; it names
            the file, or the variables that are to blame. What a variable replaces is not looked at.
    """
    if path is None and (named := environ.get("EDGE_AGENT_CONFIG")):
        path = Path(named)
    where = str(path or DEFAULT_FILE)
    file = _read_yaml(path) if path or DEFAULT_FILE.is_file() else {}
    _check_keys(file, Config, where)
    variables = tuple(_environment(environ))
    try:
        return msgspec.convert(laid_over(file, variables), Config)
    except msgspec.ValidationError as exc:
        problem = str(exc)
        raise ConfigError(
            origin(problem, where, file, variables), problem.replace("`$.", "`")
        ) from exc


def _read_yaml(path: Path | None) -> dict[str, Any]:
    path = path or DEFAULT_FILE
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(str(path), str(exc)) from exc
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(str(path), f"expected keys and values, found {type(tree).__name__}")
    return tree


def _environment(environ: Mapping[str, str]) -> Iterator[Variable]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable in ENV_RESERVED:
            continue
        dotted = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        _check_key(dotted, [knob.path for knob in knobs()], f"environment {variable}")
        try:
            yield Variable(variable, dotted, yaml.safe_load(text))
        except yaml.YAMLError as exc:
            msg = f"environment {variable}"
            raise ConfigError(msg, str(exc)) from exc


def _check_keys(tree: Mapping[str, Any], cls: type[Struct], where: str, prefix: str = "") -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in tree.items():
        _check_key(f"{prefix}{key}", [f"{prefix}{name}" for name in known], where)
        kind = known[key]
        if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, dict):
            _check_keys(value, kind, where, f"{prefix}{key}.")


def _check_key(key: str, known: list[str], where: str) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0)
    hint = f"; the nearest known key is {near[0]!r}" if near else ""
    raise ConfigError(where, f"unknown key {key!r}{hint}")
