"""Moves all weights of a GGUF file into the weights file of a package, slab by slab."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import ggml_types, quantize
from edge_agent.importers.weights import WeightsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.importers.gguf import GgufFile
    from edge_agent.importers.gguf_header import Tensor
    from edge_agent.importers.llama import Layout, Product, Rows
    from edge_agent.importers.quantize import Packed
    from edge_agent.importers.weights import Region

# About 16 MiB of floats at a time: large enough for numpy, small beside the smallest device.
_SLAB_WEIGHTS = 1 << 22


def write_weights(gguf: GgufFile, layout: Layout, path: Path) -> dict[str, Region]:
    """Write the weights of `layout` to the new file `path`, and return where each array lies.

    Raises:
        ModelError: a tensor is of a type this version does not read, or holds no numbers.
        OSError: disk full or the like.
    """
    with WeightsFile(path) as out:
        compiler = _Compiler(gguf, out)
        for name, stored in layout.norms.items():
            compiler.vector(name, gguf.tensor(stored))
        for product in layout.products:
            compiler.product(product)
        out.flush()
        return out.regions


class _Storage(Enum):
    """How all parts of one product are stored, because they are one array."""

    NIBBLES = auto()
    """4 bits and offsets; carried over."""
    BYTES = auto()
    """8 bits; carried over, or rounded floats."""
    BYTES_AND_OFFSETS = auto()
    """8 bits and offsets; carried over. For parts of different kinds."""
    ROUNDED = auto()
    """8 bits, rounded, whatever the source is."""

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return quantize.NIBBLE if self is _Storage.NIBBLES else quantize.BYTE

    @property
    def has_offsets(self) -> bool:
        """Whether blocks have offsets."""
        return self in {_Storage.NIBBLES, _Storage.BYTES_AND_OFFSETS}


@dataclass(frozen=True, slots=True)
class _Compiler:
    gguf: GgufFile
    out: WeightsFile

    def vector(self, name: str, tensor: Tensor) -> None:
        numbers = ggml_types.dense(tensor.kind, self.gguf.rows(tensor, 0, 1))[0]
        self.out.reserve(name, np.float32, numbers.shape)
        self.out.write(name, 0, numbers)

    def product(self, product: Product) -> None:
        if product.columns % quantize.BLOCK:
            msg = f"{product.name}: {product.columns} columns, no multiple of {quantize.BLOCK}"
            raise ModelError(msg)
        name, rows, blocks = product.name, product.rows, product.columns // quantize.BLOCK
        storage = self._storage(product)
        blob = quantize.BLOCK * storage.bits // 8
        self.out.reserve(f"{name}.values", np.uint8, (rows, blocks, blob))
        self.out.reserve(f"{name}.scales", np.float32, (rows, blocks))
        row = 0
        offsets = []
        for packed in self._slabs(product, storage):
            self.out.write(f"{name}.values", row, packed.values)
            self.out.write(f"{name}.scales", row, packed.scales)
            row += len(packed.values)
            if storage.has_offsets:
                offsets.append(_offsets(packed))
        if offsets:
            self.out.reserve(f"{name}.offsets", np.float32, (blocks, rows))
            self.out.write(f"{name}.offsets", 0, np.concatenate(offsets).T)

    def _storage(self, product: Product) -> _Storage:
        kinds = [self.gguf.tensor(part.tensor).kind for part in product.parts]
        narrow = [ggml_types.is_narrow(kind) for kind in kinds]
        if not any(narrow):
            return _Storage.BYTES
        if product.name == "embedding":  # a look-up of rows has no place for offsets
            return _Storage.ROUNDED
        return _Storage.NIBBLES if all(narrow) else _Storage.BYTES_AND_OFFSETS

    def _slabs(self, product: Product, storage: _Storage) -> Iterator[Packed]:
        for part in product.parts:
            tensor = self.gguf.tensor(part.tensor)
            for raw in self._raw_slabs(tensor, part):
                yield _pack(tensor.kind, raw, storage)

    def _raw_slabs(self, tensor: Tensor, part: Rows) -> Iterator[ggml_types.Raw]:
        if part.order is not None:  # heads are reordered within themselves: small tensors
            yield self.gguf.rows(tensor, 0, tensor.rows)[part.order]
            return
        step = max(1, _SLAB_WEIGHTS // tensor.columns)
        for start in range(0, tensor.rows, step):
            yield self.gguf.rows(tensor, start, min(start + step, tensor.rows))


def _pack(kind: ggml_types.Kind, raw: ggml_types.Raw, storage: _Storage) -> Packed:
    if storage is _Storage.ROUNDED or not ggml_types.is_affine(kind):
        return quantize.symmetric(ggml_types.dense(kind, raw))
    return quantize.from_affine(ggml_types.affine(kind, raw), bits=storage.bits)


def _offsets(packed: Packed) -> ggml_types.F32:
    return np.zeros_like(packed.scales) if packed.offsets is None else packed.offsets
