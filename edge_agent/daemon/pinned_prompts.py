"""Finds the system prompts that the configuration pins, and writes them down for the engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.config import Pinned
    from edge_agent.modelstore.card import Variant

_FILE = "pinned.json"
# As long as the configuration lets a prompt be that stands in it.
_MOST_FILE_BYTES = 65536


def find_pinned(pinned: Sequence[Pinned], variants: Mapping[str, Variant]) -> dict[str, str]:
    """Return the system prompts of `pinned` by their names.

    Raises:
        ConfigError: a file cannot be read, or a variant is unknown or has no system prompt.
    """
    return {one.name: _text(one, variants) for one in pinned}


def write_pinned(home: Path, prompts: Mapping[str, str]) -> Path:
    """Write `prompts` into a file in `home` that only this user reads; return it.

    Raises:
        OSError: `home` cannot be written.
    """
    listed = [{"name": name, "system": text} for name, text in prompts.items()]
    path = home / _FILE
    unfinished = path.with_suffix(".unfinished")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(listed))
    return unfinished.replace(path)


def _text(one: Pinned, variants: Mapping[str, Variant]) -> str:
    where = f"engine.pinned {one.name!r}"
    if one.system is not None:
        return one.system
    if one.file is not None:
        return _read(Path(one.file), where)
    variant = variants.get(one.variant or "")
    if variant is None:
        raise ConfigError(where, f"{one.variant!r} is no variant of the model that is served")
    if variant.system_prompt is None:
        raise ConfigError(where, f"the variant {one.variant!r} has no system prompt")
    return variant.system_prompt


def _read(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_FILE_BYTES + 1)
        if len(content) > _MOST_FILE_BYTES:
            raise ConfigError(where, f"{path} has more than {_MOST_FILE_BYTES} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(where, f"{path}: {exc}") from exc
