"""What we know of a model before we have it: a YAML card, shipped with the program or a user's own.

A card says where the weights come from (with sizes and hashes), how they are to be stored, and what
their files do not say: sampling defaults, stop tokens, licence. A variant's card gives another name
a base model, a system prompt and sampling of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.messages import Message, Request, Role, Sampling
from edge_agent.modelstore.manifest import Count, Rope, Shape
from edge_agent.modelstore.sources import Source

if TYPE_CHECKING:
    from pathlib import Path

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,127}$"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]

_Entry = TypeVar("_Entry", bound=Struct)

# A card is written by hand; more than this is another kind of file.
_CARD_LIMIT_BYTES = 1 << 20


class Precision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the import stores weights, where it should not do as it thinks best."""

    bits: Literal[4, 8, 32] | None = None
    block: Literal[32, 64, 128] | None = None
    head_bits: Literal[4, 8] | None = None
    activations: Literal["exact", "int8"] | None = None


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that `edge-agent model pull` can prepare."""

    name: Name
    title: Title
    family: Annotated[str, Meta(min_length=1, max_length=64)]
    licence: Annotated[str, Meta(min_length=1, max_length=200)]
    source: Source
    package_bytes: Annotated[int, Meta(ge=1, le=1 << 42)]
    """About how large the package will be; for the check of free disk."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer, besides those the source names; each must be in the vocabulary."""
    sampling: Sampling = Sampling()
    precision: Precision = Precision()
    shape: Shape | None = None
    """The dimensions, for those who plan without the weights; the import reads them itself."""
    rope: Rope | None = None
    context: Count | None = None


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another name for a base model, with manners of its own."""

    name: Name
    title: Title
    variant_of: Name
    system_prompt: Annotated[str, Meta(min_length=1, max_length=32_768)] | None = None
    """What opens a conversation that has no system message."""
    sampling: Sampling = Sampling()
    """What a request leaves open; what this leaves open, the base decides."""

    def dress(self, request: Request) -> Request:
        """Return `request` as the base model shall see it; what the request says goes before."""
        own = msgspec.structs.asdict(self.sampling)
        asked = msgspec.structs.asdict(request.sampling)
        merged = {name: own[name] if value is None else value for name, value in asked.items()}
        messages = request.messages
        if self.system_prompt and not any(message.role is Role.SYSTEM for message in messages):
            messages = (Message(role=Role.SYSTEM, content=self.system_prompt), *messages)
        return msgspec.structs.replace(request, messages=messages, sampling=Sampling(**merged))


class _SamplingRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a card may say of sampling: as requests may, except that a seed is a request's own."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None


class _Rules(Struct, frozen=True):
    sampling: _SamplingRules = _SamplingRules()


def read_card(path: Path) -> Card:
    """Read the card of a model.

    Raises:
        ModelError: unreadable, bad YAML, unknown key or wrong type.
    """
    return _convert(path, _load(path), Card)


def read_entry(path: Path) -> Card | Variant:
    """Read the card of a model or of a variant.

    Raises:
        ModelError: as `read_card`, or its name is not that of its file.
    """
    raw = _load(path)
    is_variant = isinstance(raw, dict) and "variant_of" in raw
    entry: Card | Variant
    entry = _convert(path, raw, Variant) if is_variant else _convert(path, raw, Card)
    if entry.name != path.stem:
        msg = f"{path}: it names {entry.name!r}, so the file must be {entry.name}.yaml"
        raise ModelError(msg)
    return entry


def _load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(_CARD_LIMIT_BYTES + 1)
        if len(data) <= _CARD_LIMIT_BYTES:
            return yaml.safe_load(data)
    except (OSError, ValueError, yaml.YAMLError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
    msg = f"{path}: over {_CARD_LIMIT_BYTES} bytes, the limit of a card"
    raise ModelError(msg)


def _convert(path: Path, raw: object, kind: type[_Entry]) -> _Entry:
    try:
        msgspec.convert(raw, _Rules)  # `Sampling` has no bounds: requests are checked otherwise
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
