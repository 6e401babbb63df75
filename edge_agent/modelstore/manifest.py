"""What a model package says of itself: `manifest.json`, strict, with the sha256 of every file.

A package is a directory: `manifest.json`, `decoder.<kv dtype>.onnx`, `weights.bin`,
`tokenizer.json`, `chat_template.jinja`. Nothing here reads weights.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "manifest.json"
FORMAT = 2

Activations = Literal["exact", "int8"]
"""How products take their activations: see `Quantization`."""

# Files that a manifest never lists: itself, and what a machine prepares for itself.
_RESERVED = re.compile(r"manifest\.json|prepared\b.*|.*\.prepared\..*")
# Thousands of files and factors; a real manifest has a few kilobytes.
LIMIT_BYTES = 4 << 20

# One path component: names are looked up in a directory or an archive and lead nowhere else.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")]
Count = Annotated[int, Meta(ge=1, le=1 << 24)]


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decoder's dimensions (all counts)."""

    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    intermediate: Count
    vocab: Count
    norm_eps: float


class Rope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rotary embedding facts.

    `dims` of each head are rotated, in the half form (dim i pairs with i + dims/2). The factors
    divide the frequencies; the short ones serve requests of up to `original_context` tokens, the
    long ones all others. `attention_factor` multiplies cos and sin in both modes.
    """

    theta: float
    dims: Count
    original_context: Count
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    attention_factor: float = 1.0


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size and hash of one file of the package."""

    bytes: Annotated[int, Meta(ge=0, le=1 << 42)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How most weights are stored, bits and block of the linears and of the head, and multiplied.

    A summary for people and for arithmetic: the graph holds what is true of each weight. 32 bits
    are floats, which have no blocks (block 0). `activations`: with `exact` weights meet them in
    two int8 terms, or 4-bit weights in fp32 where rows are many; with `int8` every product takes
    its activations as one term of int8 blocks, which is fastest.
    """

    bits: Literal[4, 8, 32]
    block: int
    head_bits: Literal[4, 8, 32]
    head_block: int
    activations: Activations


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the engine and the daemon need to know about a package."""

    format: int
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
    family: str
    context: Count
    shape: Shape
    rope: Rope
    quantization: Quantization
    graphs: dict[str, FileName]
    """KV dtype (`fp32`, `fp16`, `int8`) -> file name of the decoder graph."""
    stop_token_ids: tuple[int, ...]
    longest_token_bytes: Count | None = None
    """Bytes of text that one token stands for at most; None if that cannot be told."""
    sampling: Sampling = Sampling()
    licence: str
    source: str
    created: int
    """Seconds since the epoch, for `/v1/models`."""
    files: dict[FileName, File]

    @property
    def total_bytes(self) -> int:
        """Size of all files, without what a machine prepares for itself."""
        return sum(file.bytes for file in self.files.values())


class _Format(Struct, frozen=True):
    """Read first: another format may have other fields."""

    format: int


def read_manifest(package: Path) -> Manifest:
    """Read the manifest of `package`.

    Raises:
        ModelError: missing, not JSON, of another format, or a field is wrong.
    """
    path = package / FILE_NAME
    try:
        data = path.read_bytes()
    except OSError as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Return the manifest that `data` is; `path`, where it comes from, is for errors.

    Raises:
        ModelError: as `read_manifest`.
    """
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found == FORMAT:
            return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
    msg = f"{path}: format {found}, this version reads {FORMAT}; import it again"
    raise ModelError(msg)


def write_manifest(package: Path, manifest: Manifest) -> None:
    """Write the manifest of `package`, a directory that has none, and bring it to the disk."""
    with (package / FILE_NAME).open("xb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        file.flush()
        os.fsync(file.fileno())


def is_reserved(name: str) -> bool:
    """Tell whether a file called `name` is none that a manifest may list."""
    return _RESERVED.fullmatch(name) is not None
