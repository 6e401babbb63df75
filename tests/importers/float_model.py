"""The llama decoder in plain numpy floats, from GGUF names; slow, short, and nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.modelstore.manifest import Rope, Shape

F32 = NDArray[np.float32]


def logits(weights: Mapping[str, F32], shape: Shape, rope: Rope, ids: Sequence[int]) -> F32:
    """Return the logits after each of `ids`, float32 [len(ids), vocab]."""
    hidden = weights["token_embd.weight"][list(ids)]
    for layer in range(shape.layers):
        block = {
            name.removeprefix(f"blk.{layer}.").removesuffix(".weight"): array
            for name, array in weights.items()
            if name.startswith(f"blk.{layer}.")
        }
        hidden = hidden + _attend(block, shape, rope, _norm(hidden, block["attn_norm"], shape))
        normed = _norm(hidden, block["ffn_norm"], shape)
        gate, up = normed @ block["ffn_gate"].T, normed @ block["ffn_up"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ block["ffn_down"].T
    normed = _norm(hidden, weights["output_norm.weight"], shape)
    head = weights.get("output.weight", weights["token_embd.weight"])
    return np.asarray(normed @ head.T, np.float32)


def _norm(array: F32, weight: F32, shape: Shape) -> F32:
    mean_square = np.mean(array * array, axis=-1, keepdims=True)
    return np.asarray(array / np.sqrt(mean_square + shape.norm_eps) * weight, np.float32)


def _attend(block: Mapping[str, F32], shape: Shape, rope: Rope, normed: F32) -> F32:
    tokens = len(normed)
    query = _turn((normed @ block["attn_q"].T).reshape(tokens, shape.heads, -1), rope)
    key = _turn((normed @ block["attn_k"].T).reshape(tokens, shape.kv_heads, -1), rope)
    value = (normed @ block["attn_v"].T).reshape(tokens, shape.kv_heads, -1)
    group = shape.heads // shape.kv_heads
    key, value = key.repeat(group, axis=1), value.repeat(group, axis=1)
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(shape.head_dim)
    scores = scores + np.triu(np.full((tokens, tokens), -np.inf), 1)
    chance = np.exp(scores - scores.max(axis=-1, keepdims=True))
    chance = chance / chance.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", chance, value).reshape(tokens, -1)
    return np.asarray(mixed @ block["attn_output"].T, np.float32)


def _turn(heads: F32, rope: Rope) -> F32:
    """Rotate pairs of neighbours, the order in which the file stores them."""
    frequencies = rope.theta ** (-np.arange(0, rope.dims, 2) / rope.dims)
    angles = np.arange(len(heads))[:, None, None] * frequencies
    even, odd = heads[..., 0::2], heads[..., 1::2]
    turned = np.empty_like(heads)
    turned[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
    turned[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
    return turned
