"""What a door gives to the compiler: a model's facts, and its weights row by row.

A door opens one foreign layout (GGUF, Hugging Face, onnxruntime-genai) and returns a `Model` whose
parts read the foreign file when asked. Nothing here knows a file format or the package's layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_agent.errors import ModelError
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    @property
    def num_weights(self) -> int:
        """Weights of all products, an embedding that is also the head counted once."""
        return sum(product.rows * product.columns for product in self.products)


def product_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return [rows, columns] of each product of a decoder of `shape`, in order; `head` is last."""
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    shapes = {"embedding": (shape.vocab, hidden)}
    for layer in range(shape.layers):
        name = f"layers.{layer}"
        shapes[f"{name}.qkv"] = (wide + 2 * shape.kv_heads * shape.head_dim, hidden)
        shapes[f"{name}.o"] = (hidden, wide)
        shapes[f"{name}.gate_up"] = (2 * shape.intermediate, hidden)
        shapes[f"{name}.down"] = (hidden, shape.intermediate)
    return {**shapes, "head": (shape.vocab, hidden)}


def norm_names(shape: Shape) -> tuple[str, ...]:
    """Return the names of all norms of a decoder of `shape`, in order."""
    layers = range(shape.layers)
    names = [f"layers.{layer}.{norm}" for layer in layers for norm in ("attn_norm", "ffn_norm")]
    return (*names, "norm")


def check(model: Model) -> None:
    """Make sure that `model` has all weights of its shape, and no others.

    Raises:
        ModelError: a weight is missing, is one too many, or has other dimensions.
    """
    expected = product_shapes(model.shape)
    found = {product.name: product for product in model.products}
    if "head" not in found:  # it is the embedding
        del expected["head"]
    _check_names("product", [product.name for product in model.products], expected)
    _check_names("norm", list(model.norms), norm_names(model.shape))
    for name, (rows, columns) in expected.items():
        if found[name].rows != rows:
            raise _misfit(name, found[name].rows, columns, rows, columns)
        for part in found[name].parts:
            if part.columns != columns:
                raise _misfit(part.name, part.rows, part.columns, part.rows, columns)
    for part in model.norms.values():
        if (part.rows, part.columns) != (1, model.shape.hidden):
            raise _misfit(part.name, part.rows, part.columns, 1, model.shape.hidden)


def _check_names(what: str, found: Sequence[str], expected: Iterable[str]) -> None:
    if odd := sorted(set(found) ^ set(expected)):
        msg = f"{what} {odd[0]} is {'unknown' if odd[0] in found else 'missing'}"
        raise ModelError(msg)
    if len(set(found)) < len(found):
        msg = f"a {what} comes twice: {', '.join(sorted(found))}"
        raise ModelError(msg)


def _misfit(
    name: str, rows: int, columns: int, expected_rows: int, expected_columns: int
) -> ModelError:
    return ModelError(
        f"{name} is {rows} x {columns}, expected {expected_rows} x {expected_columns}"
    )
