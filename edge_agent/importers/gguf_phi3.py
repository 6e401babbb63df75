"""The phi3 architecture of GGUF: fused q, k, v and fused gate, up; partial rotation and LongRoPE.

Rows are stored in the order in which the decoder wants them. Phi-4-mini has this architecture too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.importers.gguf_layout import Architecture, Tensors, read_theta
from edge_agent.importers.source import Product
from edge_agent.modelstore.manifest import Rope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.modelstore.manifest import Shape

_NAME = "phi3"

# What changes the arithmetic, and the value that does not. PhiMoE and the like have experts.
_NEUTRAL: dict[str, float | str] = {
    "attention.causal": True,
    "expert_count": 0,
    "rope.scaling.factor": 1.0,
}
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def _rope(tensors: Tensors, shape: Shape, context: int) -> Rope:
    gguf = tensors.gguf
    window = gguf.integer(f"{_NAME}.attention.sliding_window", 0)  # 0: no window
    if 0 < window < context:
        problem = f"a sliding window of {window} tokens in a context of {context} is not supported"
        gguf.refuse(problem)
    dims = gguf.integer(f"{_NAME}.rope.dimension_count", shape.head_dim)
    original = gguf.integer(f"{_NAME}.rope.scaling.original_context_length", context)
    if not 0 < dims <= shape.head_dim or dims % 2 or not 1 <= original <= context:
        problem = (
            f"impossible rotation: {dims} dims of {shape.head_dim}, "
            f"original context {original} of {context}"
        )
        gguf.refuse(problem)
    theta = read_theta(gguf, _NAME)
    if _SHORT not in tensors and _LONG not in tensors:
        return Rope(theta=theta, dims=dims, original_context=original)
    attention_factor = gguf.number(f"{_NAME}.rope.scaling.attn_factor")
    if not 0 < attention_factor < float("inf"):
        gguf.refuse(f"impossible rope.scaling.attn_factor {attention_factor}")
    return Rope(
        theta=theta,
        dims=dims,
        original_context=original,
        short_factors=tensors.factors(_SHORT, dims // 2),
        long_factors=tensors.factors(_LONG, dims // 2),
        attention_factor=attention_factor,
    )


def _products(tensors: Tensors, shape: Shape, layer: int) -> Iterator[Product]:
    heads = shape.heads + 2 * shape.kv_heads
    qkv = tensors.take(f"blk.{layer}.attn_qkv.weight", heads * shape.head_dim, shape.hidden)
    yield Product(name=f"layers.{layer}.qkv", parts=(qkv,))
    gate_up = tensors.take(f"blk.{layer}.ffn_up.weight", 2 * shape.intermediate, shape.hidden)
    yield Product(name=f"layers.{layer}.gate_up", parts=(gate_up,))


PHI3 = Architecture(name=_NAME, neutral=_NEUTRAL, rope=_rope, products=_products)
