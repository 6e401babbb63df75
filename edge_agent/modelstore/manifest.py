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
FORMAT = 1

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
    """How weights are stored, bits and block of the linears and of the tied head, and multiplied.

    Activations enter a product with 8-bit weights as int8 blocks; with two terms the second one
    carries what the first one rounded off. Products with 4-bit weights compute in fp32.
    """

    bits: int
    block: int
    head_bits: int
    head_block: int
    activation_terms: Literal[1, 2] = 1


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
