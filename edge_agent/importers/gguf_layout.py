"""What the architectures of GGUF have in common: dimensions, names of tensors, nothing left over.

A layout says which rows of which tensors make which weight of the decoder; `gguf_llama` and
`gguf_phi3` say in which way their own differ, and the rest of it is read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.importers.gguf_part import GgufPart
from edge_agent.importers.source import Product
from edge_agent.modelstore.manifest import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edge_agent.importers.gguf import GgufFile
    from edge_agent.importers.source import Part
    from edge_agent.modelstore.manifest import Rope

# Bounds far above any real model: what follows works through all layers before it looks at weights.
MAX_LAYERS = 1 << 10
MAX_WIDTH = 1 << 20
MAX_CONTEXT = 1 << 24

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A decoder as its file describes it; the fields are those of `source.Model`."""

    shape: Shape
    rope: Rope
    context: int
    products: tuple[Product, ...]
    norms: dict[str, Part]


@dataclass(frozen=True, slots=True)
class Tensors:
    """Hands out the tensors of a file, each of the shape that is asked for; knows what is left."""

    gguf: GgufFile
    _taken: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.gguf.tensors

    def take(
        self, name: str, rows: int, columns: int, order: NDArray[np.int64] | None = None
    ) -> GgufPart:
        """Return `name`, whose rows are in the order `order` (as stored if None).

        Raises:
            ModelError: the tensor is missing or has another shape.
        """
        tensor = self.gguf.tensor(name)
        if (tensor.rows, tensor.columns) != (rows, columns):
            found = f"{tensor.rows} x {tensor.columns}"
            self.gguf.refuse(f"tensor {name!r} is {found}, expected {rows} x {columns}")
        self._taken.add(name)
        return GgufPart(gguf=self.gguf, tensor=tensor, order=order)

    def factors(self, name: str, size: int) -> tuple[float, ...]:
        """Return the numbers of vector `name`, by which frequencies are divided.

        Raises:
            ModelError: it is missing, of another size or type, or holds no such numbers.
        """
        numbers: list[float] = self.take(name, 1, size).floats(0, 1)[0].tolist()
        if min(numbers) <= 0:
            self.gguf.refuse(f"tensor {name!r} holds {min(numbers)}, expected factors above 0")
        return tuple(numbers)

    def refuse_rest(self) -> None:
        """Refuse a file with tensors that nobody took: they would change what the model says.

        Raises:
            ModelError: naming some of them.
        """
        if rest := sorted(set(self.gguf.tensors) - self._taken):
            self.gguf.refuse(f"tensors this version would ignore: {', '.join(rest[:5])}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What one architecture does in its own way."""

    name: str
    """In the file, and the beginning of its keys."""
    neutral: dict[str, float | str]
    """What changes the arithmetic, by key without the name, and the value that does not."""
    rope: Callable[[Tensors, Shape, int], Rope]
    """Returns the rotation of a model with so many tokens of context."""
    products: Callable[[Tensors, Shape, int], Iterator[Product]]
    """Yields the products of a layer whose storage differs: `qkv` and `gate_up`."""

    def read_layout(self, gguf: GgufFile) -> Layout:
        """Return the layout of the model in `gguf`.

        Raises:
            ModelError: a fact is missing, impossible or not supported; a tensor is missing, has
                another shape, or is one this version would ignore.
        """
        refuse_unless(gguf, self.name, self.neutral)
        shape, context = read_shape(gguf, self.name), read_context(gguf, self.name)
        tensors = Tensors(gguf)
        layout = Layout(
            shape=shape,
            rope=self.rope(tensors, shape, context),
            context=context,
            products=tuple(self._all_products(tensors, shape)),
            norms=read_norms(tensors, shape),
        )
        tensors.refuse_rest()
        return layout

    def _all_products(self, tensors: Tensors, shape: Shape) -> Iterator[Product]:
        yield from read_ends(tensors, shape)
        for layer in range(shape.layers):
            yield from self.products(tensors, shape, layer)
            yield from read_plain(tensors, layer, shape)


def read_shape(gguf: GgufFile, architecture: str) -> Shape:
    """Return the dimensions that the metadata of `architecture` gives.

    Raises:
        ModelError: a number is missing, of another type, or impossible.
    """
    hidden = gguf.integer(f"{architecture}.embedding_length")
    heads = gguf.integer(f"{architecture}.attention.head_count")
    shape = Shape(
        layers=gguf.integer(f"{architecture}.block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=gguf.integer(f"{architecture}.attention.head_count_kv", heads),
        head_dim=gguf.integer(f"{architecture}.attention.key_length", hidden // max(heads, 1)),
        intermediate=gguf.integer(f"{architecture}.feed_forward_length"),
        vocab=gguf.tensor(_EMBEDDING).rows,
        norm_eps=gguf.number(f"{architecture}.attention.layer_norm_rms_epsilon"),
    )
    widths = (hidden, heads, shape.kv_heads, shape.head_dim, shape.intermediate, shape.vocab)
    fits = 1 <= shape.layers <= MAX_LAYERS and min(widths) >= 1 and max(widths) <= MAX_WIDTH
    if not fits or heads % shape.kv_heads or shape.head_dim % 2 or not 0 < shape.norm_eps < 1:
        gguf.refuse(f"impossible dimensions: {shape}")
    value_dim = gguf.integer(f"{architecture}.attention.value_length", shape.head_dim)
    if value_dim != shape.head_dim:
        gguf.refuse(f"values of {value_dim} dims beside keys of {shape.head_dim} are not read")
    return shape


def read_context(gguf: GgufFile, architecture: str) -> int:
    """Return the most tokens the model was made for.

    Raises:
        ModelError: missing, of another type, or impossible.
    """
    context = gguf.integer(f"{architecture}.context_length")
    if not 1 <= context <= MAX_CONTEXT:
        gguf.refuse(f"impossible context of {context} tokens")
    return context


def read_theta(gguf: GgufFile, architecture: str) -> float:
    """Return the base of the rotation's frequencies.

    Raises:
        ModelError: of another type or impossible.
    """
    theta = gguf.number(f"{architecture}.rope.freq_base", 10_000.0)  # GGUF's own default
    if not 1 < theta < float("inf"):
        gguf.refuse(f"impossible rope.freq_base {theta}")
    return theta


def refuse_unless(gguf: GgufFile, architecture: str, neutral: dict[str, float | str]) -> None:
    """Refuse metadata that asks for arithmetic the decoder does not have.

    `neutral` gives, for keys of `architecture`, the value that asks for nothing.

    Raises:
        ModelError: naming the first key with another value.
    """
    for suffix, value in neutral.items():
        key = f"{architecture}.{suffix}"
        found = gguf.metadata.get(key, value)
        if isinstance(found, np.ndarray) or found != value:
            gguf.refuse(f"{key} = {found!r} is not supported by this version")


def read_norms(tensors: Tensors, shape: Shape) -> dict[str, Part]:
    """Return the vectors of all norms by their names in the decoder."""
    norms: dict[str, Part] = {"norm": tensors.take("output_norm.weight", 1, shape.hidden)}
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            stored = f"blk.{layer}.{norm}.weight"
            norms[f"layers.{layer}.{norm}"] = tensors.take(stored, 1, shape.hidden)
    return norms


def read_ends(tensors: Tensors, shape: Shape) -> Iterator[Product]:
    """Yield the embedding and, where it is not tied, the head."""
    for name, stored in (("embedding", _EMBEDDING), ("head", _HEAD)):
        if name == "embedding" or stored in tensors:
            yield Product(name=name, parts=(tensors.take(stored, shape.vocab, shape.hidden),))


def read_plain(tensors: Tensors, layer: int, shape: Shape) -> Iterator[Product]:
    """Yield the two products of a layer that every architecture stores alike: `o` and `down`."""
    wide = shape.heads * shape.head_dim
    o = tensors.take(f"blk.{layer}.attn_output.weight", shape.hidden, wide)
    yield Product(name=f"layers.{layer}.o", parts=(o,))
    down = tensors.take(f"blk.{layer}.ffn_down.weight", shape.hidden, shape.intermediate)
    yield Product(name=f"layers.{layer}.down", parts=(down,))
