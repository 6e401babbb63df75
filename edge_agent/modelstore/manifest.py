"""What a model package says of itself: `manifest.json`, strict, with the sha256 of every file.

A package is a directory: `manifest.json`, `decoder.<kv dtype>.onnx`, `weights.bin`,
`tokenizer.json`, `chat_template.jinja`. Nothing here reads weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "manifest.json"
FORMAT = 2

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

    bytes: int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How most weights are stored, bits and block of the linears and of the head, and multiplied.

    A summary for people and for arithmetic: the graph holds what is true of each weight. 32 bits
    are floats, which have no blocks (block 0). `activations`: with `exact` 4-bit weights multiply
    in fp32 and 8-bit weights meet activations in two int8 terms; with `int8` every product takes
    its activations as one term of int8 blocks, which is fastest.
    """

    bits: Literal[4, 8, 32]
    block: int
    head_bits: Literal[4, 8, 32]
    head_block: int
    activations: Literal["exact", "int8"]


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the engine and the daemon need to know about a package."""

    format: int
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
    family: str
    context: Count
    shape: Shape
    rope: Rope
    quantization: Quantization
    graphs: dict[str, str]
    """KV dtype (`fp32`, `fp16`, `int8`) -> file name of the decoder graph."""
    stop_token_ids: tuple[int, ...]
    sampling: Sampling = Sampling()
    licence: str
    source: str
    created: int
    """Seconds since the epoch, for `/v1/models`."""
    files: dict[str, File]


def read_manifest(package: Path) -> Manifest:
    """Read the manifest of `package`.

    Raises:
        ModelError: missing, not JSON, of another format, or a field is wrong.
    """
    path = package / FILE_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc
    if manifest.format != FORMAT:
        msg = f"{path}: format {manifest.format}, this version reads {FORMAT}; import it again"
        raise ModelError(msg)
    return manifest
