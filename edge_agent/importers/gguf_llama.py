"""The llama architecture of GGUF: separate q, k, v, gate and up; rows of q and k stored in pairs.

The file pairs rows for interleaved rotation; the decoder rotates halves, so they are put back in
order. Also the architecture of SmolLM2, Mistral and others that are built alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.importers.gguf_layout import Architecture, Tensors, read_theta
from edge_agent.importers.source import Product
from edge_agent.modelstore.manifest import Rope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.importers.gguf_part import GgufPart
    from edge_agent.modelstore.manifest import Shape

_NAME = "llama"

# What changes the arithmetic, and the value that does not.
_NEUTRAL: dict[str, float | str] = {
    "attention.causal": True,
    "attention.scale": 0.0,
    "attention.sliding_window": 0,
    "embedding_scale": 1.0,
    "expert_count": 0,
    "logit_scale": 1.0,
    "residual_scale": 1.0,
    "rope.scale_linear": 1.0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.factor": 1.0,
    "rope.scaling.type": "none",
    "use_parallel_residual": False,
}
# One factor per frequency, for all lengths: how llama 3.1 and later stretch their context.
_FACTORS = "rope_freqs.weight"


def _rope(tensors: Tensors, shape: Shape, context: int) -> Rope:
    gguf = tensors.gguf
    dims = gguf.integer(f"{_NAME}.rope.dimension_count", shape.head_dim)
    if dims != shape.head_dim:
        problem = f"{dims} rotated dims of {shape.head_dim}: a llama rotates all of them"
        gguf.refuse(problem)
    return Rope(
        theta=read_theta(gguf, _NAME),
        dims=dims,
        original_context=context,
        short_factors=tensors.factors(_FACTORS, dims // 2) if _FACTORS in tensors else (),
    )


def _products(tensors: Tensors, shape: Shape, layer: int) -> Iterator[Product]:
    block, name = f"blk.{layer}", f"layers.{layer}"
    q = _rotated(tensors, f"{block}.attn_q.weight", shape.heads, shape)
    k = _rotated(tensors, f"{block}.attn_k.weight", shape.kv_heads, shape)
    v = tensors.take(f"{block}.attn_v.weight", shape.kv_heads * shape.head_dim, shape.hidden)
    yield Product(name=f"{name}.qkv", parts=(q, k, v))
    gate = tensors.take(f"{block}.ffn_gate.weight", shape.intermediate, shape.hidden)
    up = tensors.take(f"{block}.ffn_up.weight", shape.intermediate, shape.hidden)
    yield Product(name=f"{name}.gate_up", parts=(gate, up))


def _rotated(tensors: Tensors, name: str, heads: int, shape: Shape) -> GgufPart:
    """Undo the pairing: row 2i + j of a stored head is row i + j * head_dim/2 of the model's."""
    rows = heads * shape.head_dim
    stored = np.arange(rows).reshape(heads, shape.head_dim // 2, 2)
    return tensors.take(name, rows, shape.hidden, order=stored.swapaxes(1, 2).reshape(-1))


LLAMA = Architecture(name=_NAME, neutral=_NEUTRAL, rope=_rope, products=_products)
