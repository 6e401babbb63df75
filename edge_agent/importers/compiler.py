"""Moves all weights of a model into the weights file of a package, slab by slab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.importers import quantize
from edge_agent.importers.precision import storage
from edge_agent.importers.source import check, norm_names, product_shapes
from edge_agent.importers.weights import WeightsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.precision import Storage
    from edge_agent.importers.quantize import Packed
    from edge_agent.importers.source import Blocks, Model, Part, Product
    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.card import Precision

# 16 MiB of floats at a time: large enough for numpy, small beside the smallest device.
SLAB_WEIGHTS = 1 << 22


def write_weights(model: Model, asked: Precision, path: Path) -> dict[str, Region]:
    """Write the weights of `model` to the new file `path`, and return where each array lies.

    Raises:
        ModelError: a weight is missing, is of a kind this version does not read, holds infinity or
            NaN, or cannot be stored as asked.
        OSError: disk full or the like.
    """
    check(model)
    # Everything in one order, whatever the door's; and decided before anything is written.
    place = {name: number for number, name in enumerate(product_shapes(model.shape))}
    products = sorted(model.products, key=lambda product: place[product.name])
    kinds = [storage(product, asked) for product in products]
    with WeightsFile(path) as out:
        for name in norm_names(model.shape):
            vector = model.norms[name].floats(0, 1)[0]
            out.reserve(name, np.float32, vector.shape)
            out.write(name, 0, vector)
        for product, kind in zip(products, kinds, strict=True):
            if kind.blocks is None:
                _write_floats(out, product)
            else:
                _write_blocks(out, product, kind, kind.blocks)
        out.flush()
        return out.regions


def _write_floats(out: WeightsFile, product: Product) -> None:
    name = f"{product.name}.floats"
    out.reserve(name, np.float32, (product.rows, product.columns))
    for row, part, start, stop in _slabs(product):
        out.write(name, row, part.floats(start, stop))


def _write_blocks(out: WeightsFile, product: Product, kind: Storage, blocks: Blocks) -> None:
    name, rows = product.name, product.rows
    across = product.columns // blocks.block
    out.reserve(f"{name}.values", np.uint8, (rows, across, blocks.block * blocks.bits // 8))
    out.reserve(f"{name}.scales", np.float32, (rows, across))
    if blocks.has_zero_points:
        out.reserve(f"{name}.zero_points", np.uint8, (rows, -(-across * blocks.bits // 8)))
    offsets: list[F32] = []
    for row, part, start, stop in _slabs(product):
        packed = (
            part.packed(start, stop) if kind.is_carried else _rounded(part, start, stop, blocks)
        )
        out.write(f"{name}.values", row, packed.values)
        out.write(f"{name}.scales", row, packed.scales)
        if packed.zero_points is not None:
            out.write(f"{name}.zero_points", row, packed.zero_points)
        if packed.offsets is not None:
            offsets.append(packed.offsets)
    if blocks.has_offsets:  # the other way round, as the product with the sums takes them
        out.reserve(f"{name}.offsets", np.float32, (across, rows))
        out.write(f"{name}.offsets", 0, np.concatenate(offsets).T)


def _rounded(part: Part, start: int, stop: int, blocks: Blocks) -> Packed:
    return quantize.symmetric(part.floats(start, stop), bits=blocks.bits, block=blocks.block)


def _slabs(product: Product) -> Iterator[tuple[int, Part, int, int]]:
    """Yield the row of the product, the part and its rows [start, stop) of each slab."""
    step = max(1, SLAB_WEIGHTS // product.columns)
    row = 0
    for part in product.parts:
        for start in range(0, part.rows, step):
            stop = min(start + step, part.rows)
            yield row, part, start, stop
            row += stop - start
