"""A model of arrays in memory, for what works on any door's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_agent.importers.quantize import symmetric
from edge_agent.importers.source import Blocks, Model, Product, norm_names, product_shapes
from edge_agent.modelstore.manifest import Rope, Shape

if TYPE_CHECKING:
    from edge_agent.importers.quantize import Packed

F32 = NDArray[np.float32]

SHAPE = Shape(
    layers=1, hidden=64, heads=2, kv_heads=1, head_dim=32,
    intermediate=96, vocab=70, norm_eps=1e-5,
)  # fmt: skip
ROPE = Rope(theta=10_000.0, dims=32, original_context=64)


@dataclass(frozen=True, slots=True)
class FloatPart:
    """Rows that are floats."""

    name: str
    weights: F32
    blocks: None = None

    @property
    def rows(self) -> int:
        return len(self.weights)

    @property
    def columns(self) -> int:
        return int(self.weights.shape[1])

    def floats(self, start: int, stop: int) -> F32:
        return self.weights[start:stop]

    def packed(self, start: int, stop: int) -> Packed:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class BlockPart:
    """Rows that are stored in blocks."""

    name: str
    stored: Packed

    @property
    def rows(self) -> int:
        return len(self.stored.values)

    @property
    def columns(self) -> int:
        return int(self.stored.scales.shape[1]) * self.stored.block

    @property
    def blocks(self) -> Blocks:
        return Blocks(
            bits=self.stored.bits,
            block=self.stored.block,
            has_offsets=self.stored.offsets is not None,
            has_zero_points=self.stored.zero_points is not None,
        )

    def floats(self, start: int, stop: int) -> F32:
        return self.stored.floats()[start:stop]

    def packed(self, start: int, stop: int) -> Packed:
        return cut(self.stored, start, stop)


def cut(packed: Packed, start: int, stop: int) -> Packed:
    """Return rows [start, stop)."""
    points, offsets = packed.zero_points, packed.offsets
    return type(packed)(
        bits=packed.bits,
        values=packed.values[start:stop],
        scales=packed.scales[start:stop],
        offsets=None if offsets is None else offsets[start:stop],
        zero_points=None if points is None else points[start:stop],
    )


def random_floats(rows: int, columns: int, seed: int = 0) -> F32:
    """Return weights as those of a model are."""
    return np.random.default_rng(seed).normal(0, 0.2, (rows, columns)).astype(np.float32)


def random_blocks(rows: int, columns: int, kind: Blocks, seed: int = 0) -> Packed:
    """Return rounded weights, with random offsets or zero points if `kind` has them."""
    rng = np.random.default_rng(seed)
    packed = symmetric(random_floats(rows, columns, seed), bits=kind.bits, block=kind.block)
    across = columns // kind.block
    offsets = points = None
    if kind.has_offsets:
        offsets = rng.normal(0, 0.1, (rows, across)).astype(np.float32)
    if kind.has_zero_points:
        points = rng.integers(0, 256, (rows, -(-across * kind.bits // 8)), dtype=np.uint8)
    return type(packed)(
        bits=kind.bits,
        values=packed.values,
        scales=packed.scales,
        offsets=offsets,
        zero_points=points,
    )


def tiny_model(
    products: dict[str, Product] | None = None,
    *,
    shape: Shape = SHAPE,
    rope: Rope = ROPE,
    has_head: bool = False,
) -> Model:
    """Return a model of float weights, but for those in `products`."""
    shapes = product_shapes(shape)
    if not has_head:
        del shapes["head"]
    made = {
        name: Product(name=name, parts=(FloatPart(name, random_floats(*size, seed=number)),))
        for number, (name, size) in enumerate(shapes.items())
    }
    norms = {
        name: FloatPart(name, random_floats(1, shape.hidden, seed=100 + number))
        for number, name in enumerate(norm_names(shape))
    }
    return Model(
        shape=shape,
        rope=rope,
        context=64,
        products=tuple((made | (products or {})).values()),
        norms=dict(norms),
        tokenizer=b"",
        chat_template="",
        stop_token_ids=(0,),
    )
