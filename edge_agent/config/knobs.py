"""Every configuration key by its path, for those who document or look one up."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_type_hints

import msgspec
from msgspec import Meta, Struct

from edge_agent.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator


class Knob(Struct, frozen=True):
    """One documented configuration key."""

    path: str
    default: object
    help: str


def knobs() -> Iterator[Knob]:
    """Yield every configuration key with its default and help, in the order of the classes."""
    yield from _knobs(Config, "")


def _knobs(cls: type[Struct], prefix: str) -> Iterator[Knob]:
    hints = get_type_hints(cls, include_extras=True)
    for field in msgspec.structs.fields(cls):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _knobs(field.type, f"{prefix}{field.name}.")
        else:
            yield Knob(f"{prefix}{field.name}", field.default, _help(hints[field.name]))


def _help(hint: object) -> str:
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.description for meta in reversed(metas) if meta.description), "")
