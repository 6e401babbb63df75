"""Finds what the configuration pins, system prompts and tools, and writes it for the engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.dialects.body import Fields
from edge_agent.dialects.openai_tools import read_tools
from edge_agent.errors import ConfigError, InvalidRequest
from edge_agent.messages import Beginning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.config import Limits, Pinned
    from edge_agent.messages import Tool
    from edge_agent.modelstore.card import Variant

_FILE = "pinned.json"
# As long as the configuration lets a prompt be that stands in it.
_MOST_PROMPT_BYTES = 65536
# Four times what tools may take in a request: people indent what they write.
_MOST_TOOLS_BYTES = 1 << 20


def find_pinned(
    pinned: Sequence[Pinned], variants: Mapping[str, Variant], limits: Limits
) -> tuple[Beginning, ...]:
    """Return what prompts of `pinned` begin with; their tools pass as those of a request do.

    Raises:
        ConfigError: a file cannot be read, a variant is unknown or has no system prompt, or the
            tools are none that a request could offer.
    """
    return tuple(
        Beginning(name=one.name, system=_system(one, variants), tools=_tools(one, limits))
        for one in pinned
    )


def write_pinned(home: Path, beginnings: Sequence[Beginning]) -> Path:
    """Write `beginnings` into a file in `home` that only this user reads; return it.

    Raises:
        OSError: `home` cannot be written.
    """
    path = home / _FILE
    unfinished = path.with_suffix(".unfinished")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(beginnings))
    return unfinished.replace(path)


def _system(one: Pinned, variants: Mapping[str, Variant]) -> str | None:
    where = _where(one)
    if one.file is not None:
        return _read(Path(one.file), where, _MOST_PROMPT_BYTES)
    if one.variant is None:
        return one.system
    variant = variants.get(one.variant)
    if variant is None:
        raise ConfigError(where, f"{one.variant!r} is no variant of the model that is served")
    if variant.system_prompt is None:
        raise ConfigError(where, f"the variant {one.variant!r} has no system prompt")
    return variant.system_prompt


def _tools(one: Pinned, limits: Limits) -> tuple[Tool, ...]:
    values: Sequence[dict[str, Any]] = one.tools
    if one.tools_file is not None:
        values = _read_tools(Path(one.tools_file), _where(one))
    elif not values:
        return ()
    try:
        return read_tools(Fields({"tools": list(values)}), limits)
    except InvalidRequest as exc:
        raise ConfigError(_where(one), str(exc)) from exc


def _read_tools(path: Path, where: str) -> list[dict[str, Any]]:
    text = _read(path, where, _MOST_TOOLS_BYTES)
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ConfigError(where, f"{path}: no JSON list of tools: {exc}") from exc


def _read(path: Path, where: str, most_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ConfigError(where, f"{path} has more than {most_bytes} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(where, f"{path}: {exc}") from exc


def _where(one: Pinned) -> str:
    return f"engine.pinned {one.name!r}"
