"""Makes packages of what lies on this machine: foreign weights, or an exported package."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from edge_agent.errors import ModelError
from edge_agent.modelstore import archive, disk
from edge_agent.modelstore.card import NAME_PATTERN, Precision
from edge_agent.modelstore.importing import run_import
from edge_agent.modelstore.workshop import opened

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.catalog import Catalog
    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.store import ModelStore

_CHECKPOINT = "*.safetensors"
_CHECKPOINT_WEIGHT_BYTES = 2  # as models are published today; with float32 the guess is too high
_DEFAULT_BITS, _DEFAULT_BLOCK, _FLOAT_BITS, _SCALE_BYTES = 4, 32, 32, 4
# Tokenizer, graphs, and head and embedding in more bits than the rest.
_SLACK = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user says of an import; None leaves it to the card or to the source."""

    name: str | None = None
    precision: Precision = field(default_factory=Precision)
    licence: str | None = None
    importance: Path | Literal["none"] | None = None
    """The text for which weights are rounded and an int8 KV cache is scaled, or none; None: our
    own."""

    def options(self) -> list[str]:
        """Return what the import's command line takes."""
        said = {
            **msgspec.structs.asdict(self.precision),
            "licence": self.licence,
            "importance": self.importance,
        }
        return [
            f"--{name.replace('_', '-')}={value}"
            for name, value in said.items()
            if value is not None
        ]


def import_model(
    source: Path,
    asked: Asked,
    *,
    store: ModelStore,
    catalog: Catalog,
    progress: Progress,
) -> Path:
    """Return the new package that is made of `source`.

    `source` is a GGUF file, a Hugging Face or onnxruntime-genai directory, or an exported package,
    which has a name of its own. Where a card has the package's name, its word on sampling, stop
    tokens, licence and precision counts as in a pull, unless `asked` says otherwise.

    Raises:
        ModelError: `source` is none of these or damaged, the name is taken or none, or the disk is
            too small.
    """
    path = source.absolute()
    try:
        facts = archive.read_facts(path) if archive.is_archive(path) else None
        num_bytes = facts.total_bytes if facts else about_bytes(path, asked.precision)
    except OSError as exc:
        msg = f"{path}: {exc.strerror}"
        raise ModelError(msg) from exc
    own_name = facts.name if facts else None
    name = _checked_name(asked.name or own_name, store, catalog)
    with opened(name, store, progress) as workshop:
        disk.require(f"importing {path}", num_bytes, workshop.staging)
        if facts:
            workshop.build(
                lambda package: archive.unpack(path, package, name=name, progress=progress)
            )
        else:
            options = [*asked.options(), *_card_option(name, catalog, progress)]
            origin = ["--origin", f"file:{path}"]
            workshop.build(
                lambda package: run_import(
                    workshop, path, package, [*options, *origin], about_bytes=num_bytes
                )
            )
    return store.package(name)


def about_bytes(source: Path, precision: Precision) -> int:
    """Return about how large the package of `source` will be; rather more than less."""
    if not source.is_dir():  # a GGUF has blocks as small as ours
        return _grown(source.stat().st_size, precision)
    checkpoint_bytes = sum(path.stat().st_size for path in source.glob(_CHECKPOINT))
    if not checkpoint_bytes:
        return _grown(sum(path.stat().st_size for path in source.iterdir()), precision)
    weights = checkpoint_bytes // _CHECKPOINT_WEIGHT_BYTES
    bits = precision.bits or _DEFAULT_BITS
    block = precision.block or _DEFAULT_BLOCK
    return int(weights * (bits / 8 + _SCALE_BYTES / block) * _SLACK)


def _grown(source_bytes: int, precision: Precision) -> int:
    return int(source_bytes * _SLACK * (8 if precision.bits == _FLOAT_BITS else 1))


def _checked_name(name: str | None, store: ModelStore, catalog: Catalog) -> str:
    if name is None:
        msg = "the package needs a name: --name NAME"
    elif re.fullmatch(NAME_PATTERN, name) is None:
        msg = f"{name!r} is no name: small letters, digits, dots, hyphens and underscores are"
    elif name in store.names():
        msg = f"{name} is here already; `edge-agent model remove {name}` first, or choose a name"
    elif catalog.base(name) != name:
        msg = f"{name} is a variant of {catalog.base(name)}; choose another name"
    else:
        return name
    raise ModelError(msg)


def _card_option(name: str, catalog: Catalog, progress: Progress) -> list[str]:
    if name not in catalog:
        return []
    card = catalog.path(name)
    progress.say(f"what is not said here, {card} says")
    return ["--card", str(card)]
