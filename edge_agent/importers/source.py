"""What a door gives to the compiler: a model's facts, and its weights row by row.

A door opens one foreign layout (GGUF, Hugging Face, onnxruntime-genai) and returns a `Model` whose
parts read the foreign file when asked. Nothing here knows a file format or the package's layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from edge_agent.importers.arrays import F32
    from edge_agent.importers.quantize import Packed
    from edge_agent.modelstore.manifest import Rope, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How the blocks of a part are stored, when they can be carried over without loss."""

    bits: int
    """4 or 8."""
    block: int
    """Weights to a block: 16 to 256, a power of two."""
    has_offsets: bool = False
    """Whether blocks have a float offset (GGUF Q4_1)."""
    has_zero_points: bool = False
    """Whether blocks have an integer zero point other than the centre (onnxruntime k_quant)."""


class Part(Protocol):
    """Some rows of a weight matrix in the order the decoder wants them; a vector is one row."""

    @property
    def name(self) -> str:
        """The stored tensor's name, for errors."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def columns(self) -> int:
        """Weights in a row."""

    @property
    def blocks(self) -> Blocks | None:
        """How its blocks are carried over; None where only floats can be had."""

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32 [stop - start, columns].

        Raises:
            ModelError: the rows hold infinity or NaN, or cannot be read.
        """

    def packed(self, start: int, stop: int) -> Packed:
        """Return rows [start, stop) exactly as stored; only where `blocks` is not None.

        Raises:
            ModelError: a scale is infinite or NaN, or the rows cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A weight of the decoder: the rows of its parts one under the other, [rows, columns].

    Names: `embedding`, `layers.N.{qkv,o,gate_up,down}` and, where it is not tied, `head`. Rows of
    `qkv` are q, k, v, each head's in the half form of rotation; rows of `gate_up` gate, then up.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def columns(self) -> int:
        """Weights in a row; the same in every part."""
        return self.parts[0].columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A foreign model, open. Valid until its door closes."""

    shape: Shape
    rope: Rope
    context: int
    """Most tokens of prompt and answer the model was made for."""
    products: tuple[Product, ...]
    norms: dict[str, Part]
    """`layers.N.{attn_norm,ffn_norm}` and `norm`: vectors of `hidden` numbers."""
    tokenizer: bytes
    """A `tokenizer.json` that was proven to load."""
    chat_template: str
    """A jinja2 template."""
    stop_token_ids: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    """What the model's own files recommend; a card's word goes before."""
