"""Reads the llama layout of GGUF: its facts, and which raw rows make which array of the decoder.

Rows of q and k are stored in pairs for interleaved rotation; the decoder rotates halves, so they
are put back in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import Rope, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edge_agent.importers.gguf import GgufFile

ARCHITECTURE = "llama"

# Bounds far above any real model: what follows works through all layers before it looks at weights.
MAX_LAYERS = 1 << 10
MAX_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one stored tensor, in the order `order` (as stored if None)."""

    tensor: str
    order: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A weight of the decoder: the rows of its parts one under the other, [rows, columns]."""

    name: str
    parts: tuple[Rows, ...]
    rows: int
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A model as its file describes it. `norms` maps array names to stored vectors."""

    shape: Shape
    rope: Rope
    context: int
    products: tuple[Product, ...]
    norms: dict[str, str]


def read_layout(gguf: GgufFile) -> Layout:
    """Return the layout of `gguf`.

    Raises:
        ModelError: another architecture, a fact is missing or impossible, a tensor is missing, has
            another shape, or is one this version would ignore.
    """
    if (architecture := gguf.text("general.architecture")) != ARCHITECTURE:
        msg = f"architecture {architecture!r} is not read by this version; it reads 'llama'"
        raise ModelError(msg)
    shape = _shape(gguf)
    layout = Layout(
        shape=shape,
        rope=_rope(gguf, shape),
        context=gguf.integer("llama.context_length"),
        products=tuple(_products(gguf, shape)),
        norms=dict(_norms(shape)),
    )
    _check_tensors(gguf, layout)
    return layout


def _shape(gguf: GgufFile) -> Shape:
    hidden, heads = (
        gguf.integer("llama.embedding_length"),
        gguf.integer("llama.attention.head_count"),
    )
    optional = gguf.metadata.get("llama.attention.key_length")
    head_dim = optional if isinstance(optional, int) else hidden // max(heads, 1)
    shape = Shape(
        layers=gguf.integer("llama.block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=gguf.integer("llama.attention.head_count_kv"),
        head_dim=head_dim,
        intermediate=gguf.integer("llama.feed_forward_length"),
        vocab=gguf.tensor("token_embd.weight").rows,
        norm_eps=gguf.number("llama.attention.layer_norm_rms_epsilon"),
    )
    counts = (hidden, heads, shape.kv_heads, head_dim, shape.intermediate)
    possible = 1 <= shape.layers <= MAX_LAYERS and min(counts) >= 1 and max(counts) <= MAX_WIDTH
    if not possible or heads % shape.kv_heads or head_dim % 2:
        msg = f"impossible dimensions: {shape}"
        raise ModelError(msg)
    return shape


def _rope(gguf: GgufFile, shape: Shape) -> Rope:
    dims = gguf.integer("llama.rope.dimension_count")
    scaled = [key for key in gguf.metadata if key.startswith("llama.rope.scaling")]
    if dims != shape.head_dim or scaled:
        msg = f"{dims} rotated dims of {shape.head_dim}, scaling {scaled}: not read by this version"
        raise ModelError(msg)
    return Rope(
        theta=gguf.number("llama.rope.freq_base"),
        dims=dims,
        original_context=gguf.integer("llama.context_length"),
    )


def _norms(shape: Shape) -> Iterator[tuple[str, str]]:
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"layers.{layer}.{norm}", f"blk.{layer}.{norm}.weight"
    yield "norm", "output_norm.weight"


def _products(gguf: GgufFile, shape: Shape) -> Iterator[Product]:
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    yield _product("embedding", hidden, (Rows(tensor="token_embd.weight"), shape.vocab))
    for layer in range(shape.layers):
        block, name = f"blk.{layer}", f"layers.{layer}"
        yield _product(
            f"{name}.qkv",
            hidden,
            _rotated(f"{block}.attn_q.weight", shape.heads, shape.head_dim),
            _rotated(f"{block}.attn_k.weight", shape.kv_heads, shape.head_dim),
            (Rows(tensor=f"{block}.attn_v.weight"), shape.kv_heads * shape.head_dim),
        )
        yield _product(f"{name}.o", wide, (Rows(tensor=f"{block}.attn_output.weight"), hidden))
        yield _product(
            f"{name}.gate_up",
            hidden,
            (Rows(tensor=f"{block}.ffn_gate.weight"), shape.intermediate),
            (Rows(tensor=f"{block}.ffn_up.weight"), shape.intermediate),
        )
        down = Rows(tensor=f"{block}.ffn_down.weight")
        yield _product(f"{name}.down", shape.intermediate, (down, hidden))
    if "output.weight" in gguf.tensors:
        yield _product("head", hidden, (Rows(tensor="output.weight"), shape.vocab))


def _product(name: str, columns: int, *parts: tuple[Rows, int]) -> Product:
    return Product(
        name=name,
        parts=tuple(rows for rows, _ in parts),
        rows=sum(count for _, count in parts),
        columns=columns,
    )


def _rotated(tensor: str, heads: int, head_dim: int) -> tuple[Rows, int]:
    """Undo the pairing: row 2i + j of a stored head is row i + j * head_dim/2 of the model's."""
    stored = np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2)
    return Rows(tensor=tensor, order=stored.swapaxes(1, 2).reshape(-1)), heads * head_dim


def _check_tensors(gguf: GgufFile, layout: Layout) -> None:
    expected = dict.fromkeys(layout.norms.values(), (1, layout.shape.hidden))
    for product in layout.products:
        stored = [gguf.tensor(part.tensor) for part in product.parts]
        if sum(tensor.rows for tensor in stored) != product.rows:
            msg = f"{product.name} has {sum(t.rows for t in stored)} rows, expected {product.rows}"
            raise ModelError(msg)
        expected |= {tensor.name: (tensor.rows, product.columns) for tensor in stored}
        for part, tensor in zip(product.parts, stored, strict=True):
            if part.order is not None and len(part.order) != tensor.rows:
                msg = f"{tensor.name} has {tensor.rows} rows, expected {len(part.order)}"
                raise ModelError(msg)
    for name, (rows, columns) in expected.items():
        tensor = gguf.tensor(name)
        if (tensor.rows, tensor.columns) != (rows, columns):
            msg = f"{name} is {tensor.rows} x {tensor.columns}, expected {rows} x {columns}"
            raise ModelError(msg)
    if unknown := sorted(set(gguf.tensors) - set(expected)):
        msg = f"tensors this version would ignore: {', '.join(unknown[:5])}"
        raise ModelError(msg)
