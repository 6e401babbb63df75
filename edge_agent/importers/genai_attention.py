"""The attention of a layer in an onnxruntime-genai graph: what it is, and what it must not do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.importers.genai_graph import Node

# What is not read below is how the cache is kept, which is not ours.
_ATTRIBUTES = (
    "num_heads",
    "kv_num_heads",
    "scale",
    "local_window_size",
    "sliding_window_cache",
    "softcap",
    "smooth_softmax",
    "do_rotary",
    "rotary_interleaved",
)
# query, key, value, past key, past value, last position, total length, cosines, sines. Those that
# follow are positions, a mask that is added, sinks, scales and norms: other mathematics.
_INPUTS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What all layers have in common; `window` -1 is none."""

    heads: int
    kv_heads: int
    scale: float
    """0 stands for 1 / sqrt(head_dim)."""
    window: int
    cos: str
    sin: str
    """Names of the rotary tables."""


def read_attention(node: Node) -> Attention:
    """Return what the GroupQueryAttention `node` says of itself.

    Raises:
        ModelError: it does anything that our decoder's attention does not.
    """
    node.has_only(inputs=_INPUTS, attributes=_ATTRIBUTES)
    wanted = {"do_rotary": 1, "rotary_interleaved": 0, "smooth_softmax": 0}
    for name, value in wanted.items():
        if node.integer(name, 0) != value:
            node.refuse(f"{name} is {node.integer(name, 0)}; this version reads {value}")
    if node.number("softcap", 0.0) != 0:
        node.refuse("caps its scores (softcap)")
    return Attention(
        heads=node.integer("num_heads"),
        kv_heads=node.integer("kv_num_heads"),
        scale=node.number("scale", 0.0),
        window=node.integer("local_window_size", -1),
        cos=node.input(7),
        sin=node.input(8),
    )
