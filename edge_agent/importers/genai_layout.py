"""The dimensions of a decoder that was found in a graph, and its weights under our names.

A graph states its dimensions many times over, once for each weight. Here they become one `Shape`,
and every weight is checked against it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.importers.genai_parts import part, vector
from edge_agent.importers.genai_tensors import refuse
from edge_agent.importers.source import Product
from edge_agent.modelstore.manifest import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_agent.importers.genai_decoder import Decoder
    from edge_agent.importers.genai_tensors import Tensor
    from edge_agent.importers.genai_weights import Weight
    from edge_agent.importers.source import Part

# Bounds far above any real model.
MAX_LAYERS = 1 << 10
MAX_WIDTH = 1 << 20
MAX_VOCAB = 1 << 24


def read_shape(decoder: Decoder) -> Shape:
    """Return the dimensions of `decoder`.

    Raises:
        ModelError: impossible, or attention is scaled in another way than by 1 / sqrt(head_dim).
    """
    first, attention = decoder.layers[0], decoder.attention
    heads, kv_heads = attention.heads, attention.kv_heads
    if not (1 <= kv_heads <= heads <= MAX_WIDTH) or heads % kv_heads:
        msg = f"{heads} attention heads and {kv_heads} key-value heads"
        raise ModelError(msg)
    shape = Shape(
        layers=len(decoder.layers),
        hidden=decoder.norm.numbers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=sum(weight.rows for weight in first.qkv) // (heads + 2 * kv_heads),
        intermediate=first.down.columns,
        vocab=decoder.head.rows,
        norm_eps=_shortest(decoder.norm_eps),
    )
    widths = (shape.hidden, shape.head_dim * heads, shape.intermediate)
    is_small = max(widths) <= MAX_WIDTH and shape.layers <= MAX_LAYERS and shape.vocab <= MAX_VOCAB
    if min(widths) < 1 or shape.head_dim % 2 or not is_small:
        msg = f"impossible dimensions: {shape}"
        raise ModelError(msg)
    expected = shape.head_dim**-0.5
    if attention.scale and not math.isclose(attention.scale, expected, rel_tol=1e-6):
        msg = f"attention scores are scaled by {attention.scale}, expected {expected}"
        raise ModelError(msg)
    return shape


def read_products(decoder: Decoder, shape: Shape, *, is_tied: bool) -> tuple[Product, ...]:
    """Return all weights that multiply; of a tied model the head is the embedding.

    Raises:
        ModelError: a weight has another shape.
    """
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    narrow = shape.kv_heads * shape.head_dim

    def products() -> Iterator[Product]:
        tokens = decoder.head if is_tied else decoder.embedding
        yield _product("embedding", [tokens], [shape.vocab], hidden)
        for index, layer in enumerate(decoder.layers):
            name = f"layers.{index}"
            yield _product(f"{name}.qkv", layer.qkv, [wide, narrow, narrow], hidden)
            yield _product(f"{name}.o", [layer.o], [hidden], wide)
            sides = [shape.intermediate, shape.intermediate]
            yield _product(f"{name}.gate_up", layer.gate_up, sides, hidden)
            yield _product(f"{name}.down", [layer.down], [hidden], shape.intermediate)
        if not is_tied:
            yield _product("head", [decoder.head], [shape.vocab], hidden)

    return tuple(products())


def read_norms(decoder: Decoder, shape: Shape) -> dict[str, Part]:
    """Return the weights of the norms by name.

    Raises:
        ModelError: one is no vector of `hidden` floats.
    """
    norms = {"norm": decoder.norm}
    for index, layer in enumerate(decoder.layers):
        norms[f"layers.{index}.attn_norm"] = layer.attn_norm
        norms[f"layers.{index}.ffn_norm"] = layer.ffn_norm
    return {name: _norm(tensor, shape.hidden) for name, tensor in norms.items()}


def _norm(tensor: Tensor, hidden: int) -> Part:
    if not tensor.is_float or tensor.shape != (hidden,):
        raise refuse(tensor.name, f"{list(tensor.shape)} of {tensor.dtype}, expected {hidden}")
    return vector(tensor)


def _product(name: str, weights: Sequence[Weight], rows: list[int], columns: int) -> Product:
    """Return the product of `weights`: one with all `rows`, or one for each of them."""
    expected = rows if len(weights) == len(rows) else [sum(rows)]
    found = [(weight.rows, weight.columns) for weight in weights]
    if found != [(count, columns) for count in expected]:
        msg = f"{name}: weights of {found}, expected rows {expected} of {columns}"
        raise ModelError(msg)
    return Product(name=name, parts=tuple(part(weight) for weight in weights))


def _shortest(stored: float) -> float:
    """Return the shortest decimal that is `stored` as float32: 1e-05, not 9.99999974e-06."""
    return float(f"{stored:.7g}")
