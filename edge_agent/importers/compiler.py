"""Moves all weights of a model into the weights file of a package, slab by slab."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.importers import quantize
from edge_agent.importers.precision import TOKEN_PRODUCTS, storage
from edge_agent.importers.source import check, norm_names, product_shapes
from edge_agent.importers.weights import WeightsFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.precision import Storage
    from edge_agent.importers.quantize import Packed
    from edge_agent.importers.source import Blocks, Model, Part, Product
    from edge_agent.importers.text_pass import TextPass
    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.card import Precision

# 16 MiB of floats at a time: large enough for numpy, small beside the smallest device.
SLAB_WEIGHTS = 1 << 22


def write_weights(
    model: Model, asked: Precision, path: Path, text: TextPass | None = None
) -> dict[str, Region]:
    """Write the weights of `model` to the new file `path`, and return where each array lies.

    A `text` passes through all layers meanwhile; what is rounded is rounded with more care where
    that finds it important.

    Raises:
        ModelError: a weight is missing, is of a kind this version does not read, holds infinity or
            NaN, or cannot be stored as asked.
        OSError: disk full or the like.
    """
    check(model)
    # Everything in one order, whatever the door's; and decided before anything is written.
    place = {name: number for number, name in enumerate(product_shapes(model.shape))}
    products = sorted(model.products, key=lambda product: place[product.name])
    kinds = {product.name: storage(product, asked) for product in products}
    with WeightsFile(path) as out:
        for name in norm_names(model.shape):
            vector = model.norms[name].floats(0, 1)[0]
            out.reserve(name, np.float32, vector.shape)
            out.write(name, 0, vector)
        for product in products:
            _reserve(out, product, kinds[product.name].blocks)
        for product in _turns(products):
            columns = text.begin(product) if text else None
            # Beyond the head, logits are of no use.
            onward = None if product.name in TOKEN_PRODUCTS else text
            for slab in _slabs(product):
                if onward:
                    onward.meet(slab.floats, slab.row)
                _write(out, product.name, slab, kinds[product.name], columns)
            if onward:
                onward.end(product)
        out.flush()
        return out.regions


def _reserve(out: WeightsFile, product: Product, blocks: Blocks | None) -> None:
    name, rows = product.name, product.rows
    if blocks is None:
        out.reserve(f"{name}.floats", np.float32, (rows, product.columns))
        return
    across = product.columns // blocks.block
    out.reserve(f"{name}.values", np.uint8, (rows, across, blocks.block * blocks.bits // 8))
    out.reserve(f"{name}.scales", np.float32, (rows, across))
    if blocks.has_zero_points:
        out.reserve(f"{name}.zero_points", np.uint8, (rows, -(-across * blocks.bits // 8)))
    if blocks.has_offsets:  # the other way round, as the product with the sums takes them
        out.reserve(f"{name}.offsets", np.float32, (across, rows))


def _turns(products: Sequence[Product]) -> list[Product]:
    """Put the embedding last where it is the head too, whose importance the layers decide."""
    first, *others = products
    is_tied = all(product.name != "head" for product in others)
    return [*others, first] if is_tied else [first, *others]


@dataclass(frozen=True, kw_only=True)
class _Slab:
    """Rows [start, stop) of `part`, which are rows [row, …) of the product; read when asked for."""

    part: Part
    start: int
    stop: int
    row: int

    @cached_property
    def floats(self) -> F32:
        return self.part.floats(self.start, self.stop)

    @cached_property
    def packed(self) -> Packed:
        return self.part.packed(self.start, self.stop)


def _slabs(product: Product) -> Iterator[_Slab]:
    step = max(1, SLAB_WEIGHTS // product.columns)
    row = 0
    for part in product.parts:
        for start in range(0, part.rows, step):
            stop = min(start + step, part.rows)
            yield _Slab(part=part, start=start, stop=stop, row=row)
            row += stop - start


def _write(out: WeightsFile, name: str, slab: _Slab, kind: Storage, columns: F32 | None) -> None:
    if kind.blocks is None:
        out.write(f"{name}.floats", slab.row, slab.floats)
        return
    if kind.is_carried:
        packed = slab.packed
        if packed.bits < kind.blocks.bits:
            packed = quantize.widened(packed)
    else:
        bits, block = kind.blocks.bits, kind.blocks.block
        packed = quantize.symmetric(slab.floats, bits=bits, block=block, importance=columns)
    out.write(f"{name}.values", slab.row, packed.values)
    out.write(f"{name}.scales", slab.row, packed.scales)
    if packed.zero_points is not None:
        out.write(f"{name}.zero_points", slab.row, packed.zero_points)
    if packed.offsets is not None:
        out.write_turned(f"{name}.offsets", slab.row, packed.offsets)
