"""Compiles a GGUF file into a package directory, slab by slab; the model is never in memory whole.

Writes into a directory of its own and brings every file to the disk; publishing is not its work.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge_agent.importers import ggml_types, graph, llama, quantize, tokenizer, weights
from edge_agent.importers.gguf import GgufFile
from edge_agent.modelstore import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.importers.gguf_header import Tensor
    from edge_agent.importers.llama import Layout, Product, Rows
    from edge_agent.importers.quantize import Packed
    from edge_agent.importers.weights import WeightsFile
    from edge_agent.modelstore.card import Card

CHAT_TEMPLATE = "chat_template.jinja"

# About 16 MiB of floats at a time: large enough for numpy, small beside the smallest device.
_SLAB_WEIGHTS = 1 << 22
_HASH_BYTES = 1 << 20


def import_gguf(source: Path, card: Card, package: Path) -> None:
    """Write the package of `card` from the weights in `source` into the new directory `package`.

    Raises:
        ModelError: `source` is no model this version reads.
        OSError: disk full or the like.
    """
    package.mkdir()
    with GgufFile(source) as gguf:
        layout = llama.read_layout(gguf)
        _write(package / tokenizer.FILE_NAME, tokenizer.tokenizer_json(gguf))
        _write(package / CHAT_TEMPLATE, gguf.text("tokenizer.chat_template").encode())
        stop_token_ids = tokenizer.stop_token_ids(gguf, card.stop_tokens)
        with weights.WeightsFile(package / weights.FILE_NAME) as out:
            _Importer(gguf, layout, out).run()
            regions = out.regions
    graphs = _write_graphs(package, layout, regions)
    facts = manifest.Manifest(
        format=manifest.FORMAT,
        name=card.name,
        family=card.family,
        context=layout.context,
        shape=layout.shape,
        rope=layout.rope,
        quantization=_QUANTIZATION,
        graphs=graphs,
        stop_token_ids=stop_token_ids,
        sampling=card.sampling,
        licence=card.licence,
        source=f"{card.source.requirement} {card.source.member}",
        created=int(time.time()),
        files={path.name: _fingerprint(path) for path in sorted(package.iterdir())},
    )
    _write(package / manifest.FILE_NAME, msgspec.json.format(msgspec.json.encode(facts)))
    _sync_directory(package)


_QUANTIZATION = manifest.Quantization(
    bits=quantize.NIBBLE,
    block=quantize.BLOCK,
    head_bits=quantize.BYTE,
    head_block=quantize.BLOCK,
    # Of 24 greedy answers of SmolLM2, 22 equal the float model's with two terms, 14 with one.
    activation_terms=2,
)


class _Importer:
    """Moves all weights of one file into the weights file of a package."""

    def __init__(self, gguf: GgufFile, layout: Layout, out: WeightsFile) -> None:
        self._gguf = gguf
        self._layout = layout
        self._out = out

    def run(self) -> None:
        """Write everything and bring it to the disk."""
        for name, stored in self._layout.norms.items():
            self._norm(name, self._gguf.tensor(stored))
        for product in self._layout.products:
            self._product(product)
        self._out.flush()

    def _norm(self, name: str, tensor: Tensor) -> None:
        vector = ggml_types.dense(tensor.kind, self._gguf.rows(tensor, 0, 1))[0]
        self._out.reserve(name, np.float32, vector.shape)
        self._out.write(name, 0, vector)

    def _product(self, product: Product) -> None:
        name, rows = product.name, product.rows
        blocks = product.columns // quantize.BLOCK
        storage = self._storage(product)
        blob = quantize.BLOCK * storage.bits // 8
        self._out.reserve(f"{name}.values", np.uint8, (rows, blocks, blob))
        self._out.reserve(f"{name}.scales", np.float32, (rows, blocks))
        row = 0
        offsets = []
        for packed in self._slabs(product, storage):
            self._out.write(f"{name}.values", row, packed.values)
            self._out.write(f"{name}.scales", row, packed.scales)
            row += len(packed.values)
            if storage.has_offsets:
                offsets.append(_offsets(packed))
        if offsets:
            self._out.reserve(f"{name}.offsets", np.float32, (blocks, rows))
            self._out.write(f"{name}.offsets", 0, np.concatenate(offsets).T)

    def _storage(self, product: Product) -> _Storage:
        """Return how `product` is stored: all parts alike, because they are one array."""
        kinds = [self._gguf.tensor(part.tensor).kind for part in product.parts]
        is_narrow = all(ggml_types.is_narrow(kind) for kind in kinds)
        return _Storage(
            bits=quantize.NIBBLE if is_narrow else quantize.BYTE,
            has_offsets=any(ggml_types.is_narrow(kind) for kind in kinds),
        )

    def _slabs(self, product: Product, storage: _Storage) -> Iterator[Packed]:
        for part in product.parts:
            tensor = self._gguf.tensor(part.tensor)
            for raw in self._raw_slabs(tensor, part):
                yield _pack(tensor.kind, raw, storage.bits)

    def _raw_slabs(self, tensor: Tensor, part: Rows) -> Iterator[ggml_types.Raw]:
        if part.order is not None:  # heads are reordered within themselves: small tensors
            yield self._gguf.rows(tensor, 0, tensor.rows)[part.order]
            return
        step = max(1, _SLAB_WEIGHTS // tensor.columns)
        for start in range(0, tensor.rows, step):
            yield self._gguf.rows(tensor, start, min(start + step, tensor.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    """Bits of a weight, and whether blocks have offsets."""

    bits: int
    has_offsets: bool


def _pack(kind: ggml_types.Kind, raw: ggml_types.Raw, bits: int) -> Packed:
    if ggml_types.is_affine(kind):
        return quantize.from_affine(ggml_types.affine(kind, raw), bits=bits)
    return quantize.symmetric(ggml_types.dense(kind, raw))


def _offsets(packed: Packed) -> ggml_types.F32:
    return np.zeros_like(packed.scales) if packed.offsets is None else packed.offsets


def _write_graphs(
    package: Path, layout: Layout, regions: dict[str, weights.Region]
) -> dict[str, str]:
    names = {}
    for kv_dtype in (graph.KvDtype.FP32,):
        plan = graph.Plan(
            shape=layout.shape, rope=layout.rope, quantization=_QUANTIZATION, kv_dtype=kv_dtype
        )
        names[str(kv_dtype)] = f"decoder.{kv_dtype}.onnx"
        model = graph.decoder(plan, regions)
        _write(package / names[str(kv_dtype)], model.SerializeToString(deterministic=True))
    return names


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> manifest.File:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            digest.update(block)
    return manifest.File(bytes=path.stat().st_size, sha256=digest.hexdigest())


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
