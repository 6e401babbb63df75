"""A decoder of two small layers with random weights, stored in any kind that a package may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_agent.engine.decoder import Decoder
from edge_agent.importers.graph import KvDtype, Plan, decoder
from edge_agent.importers.weights import FILE_NAME, WeightsFile
from edge_agent.modelstore.manifest import FORMAT, Manifest, Quantization, Rope, Shape

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.importers.weights import Region
    from edge_agent.modelstore.manifest import Activations

F32 = NDArray[np.float32]

SHAPE = Shape(
    layers=2, hidden=128, heads=4, kv_heads=2, head_dim=64,
    intermediate=256, vocab=160, norm_eps=1e-5,
)  # fmt: skip
# Partly rotated, as Phi-4-mini is; long from 48 tokens on.
ROPE = Rope(
    theta=10_000.0,
    dims=48,
    original_context=48,
    short_factors=tuple(np.linspace(1.0, 1.3, 24).tolist()),
    long_factors=tuple(np.linspace(1.1, 9.0, 24).tolist()),
    attention_factor=1.19,
)
CONTEXT = 96


@dataclass(frozen=True, slots=True)
class Kind:
    """How a weight is stored; 32 bits are floats."""

    bits: int
    block: int = 32
    has_offsets: bool = False
    has_zero_points: bool = False


@dataclass(kw_only=True)
class TinyDecoder:
    """What to write; `kinds` are found by a part of the product's name, the first that fits."""

    kinds: dict[str, Kind] = field(default_factory=lambda: {"": Kind(4)})
    activations: Activations = "exact"
    has_head: bool = False
    shape: Shape = SHAPE
    rope: Rope = ROPE
    seed: int = 0

    def write(self, package: Path) -> tuple[Manifest, dict[str, F32]]:
        """Write weights and graphs; return the manifest and the weights as they are stored."""
        weights = {}
        with WeightsFile(package / FILE_NAME) as out:
            for name, floats in random_weights(
                self.shape, self.seed, has_head=self.has_head
            ).items():
                if floats.ndim == 1:
                    _add(out, name, floats)
                    weights[name] = floats
                else:
                    weights[name] = self._store(out, name, floats)
            out.flush()
            regions = out.regions
        return self._manifest(package, regions), weights

    def _store(self, out: WeightsFile, name: str, floats: F32) -> F32:
        kind = next(kind for key, kind in self.kinds.items() if key in name)
        if kind.bits == 32:
            _add(out, f"{name}.floats", floats)
            return floats
        arrays, stored = quantized(floats, kind)
        for suffix, array in arrays.items():
            _add(out, f"{name}.{suffix}", array)
        return stored

    def _manifest(self, package: Path, regions: dict[str, Region]) -> Manifest:
        graphs = {}
        for kv_dtype in KvDtype:
            plan = Plan(
                shape=self.shape, rope=self.rope, activations=self.activations, kv_dtype=kv_dtype
            )
            graphs[str(kv_dtype)] = f"decoder.{kv_dtype}.onnx"
            model = decoder(plan, regions)
            (package / graphs[str(kv_dtype)]).write_bytes(model.SerializeToString())
        return Manifest(
            format=FORMAT, name="tiny", family="test", context=CONTEXT,
            shape=self.shape, rope=self.rope, graphs=graphs, stop_token_ids=(0,),
            quantization=Quantization(
                bits=4, block=32, head_bits=4, head_block=32, activations=self.activations
            ),
            licence="none", source="random", created=0, files={},
        )  # fmt: skip

    def load(self, package: Path, *, slots: int = 1, kv_dtype: KvDtype = KvDtype.FP32) -> Tiny:
        """Write the package and load it."""
        manifest, weights = self.write(package)
        loaded = Decoder(
            package, manifest, slots=slots, tokens=CONTEXT, threads=1, kv_dtype=kv_dtype
        )
        return Tiny(decoder=loaded, weights=weights, shape=self.shape, rope=self.rope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """A loaded tiny decoder, and the floats it should be equal to."""

    decoder: Decoder
    weights: dict[str, F32]
    shape: Shape
    rope: Rope


def random_weights(shape: Shape, seed: int, *, has_head: bool = False) -> dict[str, F32]:
    """Return all weights by their name in a package, large enough that attention matters."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> F32:
        return rng.normal(0, 1.6 / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def norm() -> F32:
        return rng.uniform(0.5, 1.5, shape.hidden).astype(np.float32)

    weights = {"embedding": matrix(shape.vocab, shape.hidden), "norm": norm()}
    wide = shape.heads * shape.head_dim
    for layer in range(shape.layers):
        block = {
            "attn_norm": norm(),
            "qkv": matrix(wide + 2 * shape.kv_heads * shape.head_dim, shape.hidden),
            "o": matrix(shape.hidden, wide),
            "ffn_norm": norm(),
            "gate_up": matrix(2 * shape.intermediate, shape.hidden),
            "down": matrix(shape.hidden, shape.intermediate),
        }
        weights |= {f"layers.{layer}.{name}": array for name, array in block.items()}
    if has_head:
        weights["head"] = matrix(shape.vocab, shape.hidden)
    return weights


def quantized(floats: F32, kind: Kind) -> tuple[dict[str, NDArray[np.generic]], F32]:
    """Round `floats` to `kind`; return the arrays of the weights file and what they stand for."""
    blocks = floats.reshape(len(floats), -1, kind.block)
    top, centre = (1 << kind.bits) - 1, 1 << (kind.bits - 1)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    if kind.has_offsets or kind.has_zero_points:
        scales = (high - low) / np.float32(top)
        points = np.rint(-low / scales).clip(0, top)
    else:
        scales = np.abs(blocks).max(-1, keepdims=True) / np.float32(centre - 1)
        points = np.full_like(scales, centre)
    steps = np.rint(blocks / scales + points).clip(0, top)
    arrays: dict[str, NDArray[np.generic]] = {
        "values": _bytes(steps.astype(np.uint8), kind.bits),
        "scales": scales[..., 0].astype(np.float32),
    }
    if kind.has_offsets:
        arrays["offsets"] = ((centre - points) * scales)[..., 0].T.astype(np.float32)
    if kind.has_zero_points:
        arrays["zero_points"] = _bytes(points[..., 0].astype(np.uint8), kind.bits)
    stored = ((steps - points) * scales).astype(np.float32)
    return arrays, stored.reshape(floats.shape)


def _bytes(steps: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return pairs of nibbles in one byte, the first in the low half; bytes as they are."""
    if bits == 8:
        return steps
    if steps.shape[-1] % 2:
        steps = np.concatenate([steps, np.zeros_like(steps[..., :1])], axis=-1)
    return np.asarray(steps[..., 0::2] | steps[..., 1::2] << 4, np.uint8)


def _add(out: WeightsFile, name: str, array: NDArray[np.generic]) -> None:
    out.reserve(name, array.dtype.type, array.shape)
    out.write(name, 0, array)
