"""The decoder in plain numpy floats, weights named as in a package; slow, short, nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.modelstore.manifest import Rope, Shape

F32 = NDArray[np.float32]


def logits(
    weights: Mapping[str, F32],
    shape: Shape,
    rope: Rope,
    ids: Sequence[int],
    *,
    is_long: bool = False,
) -> F32:
    """Return the logits after each of `ids`, float32 [len(ids), vocab]."""
    hidden = weights["embedding"][list(ids)]
    angles = _angles(rope, len(ids), is_long=is_long)
    for layer in range(shape.layers):
        block = {
            name.removeprefix(f"layers.{layer}."): array
            for name, array in weights.items()
            if name.startswith(f"layers.{layer}.")
        }
        normed = _norm(hidden, block["attn_norm"], shape)
        hidden = hidden + _attend(block, shape, normed, angles, rope.attention_factor)
        gate, up = np.split(_norm(hidden, block["ffn_norm"], shape) @ block["gate_up"].T, 2, axis=1)
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ block["down"].T
    head = weights.get("head", weights["embedding"])
    return np.asarray(_norm(hidden, weights["norm"], shape) @ head.T, np.float32)


def _angles(rope: Rope, tokens: int, *, is_long: bool) -> F32:
    factors = np.asarray((rope.long_factors if is_long else rope.short_factors) or 1.0)
    frequencies = rope.theta ** (-np.arange(0, rope.dims, 2) / rope.dims) / factors
    return np.asarray(np.arange(tokens)[:, None, None] * frequencies, np.float32)


def _norm(array: F32, weight: F32, shape: Shape) -> F32:
    mean_square = np.mean(array * array, axis=-1, keepdims=True)
    return np.asarray(array / np.sqrt(mean_square + shape.norm_eps) * weight, np.float32)


def _attend(block: Mapping[str, F32], shape: Shape, normed: F32, angles: F32, factor: float) -> F32:
    tokens = len(normed)
    heads = (normed @ block["qkv"].T).reshape(tokens, -1, shape.head_dim)
    query, key, value = np.split(heads, [shape.heads, shape.heads + shape.kv_heads], axis=1)
    query, key = _turn(query, angles, factor), _turn(key, angles, factor)
    group = shape.heads // shape.kv_heads
    key, value = key.repeat(group, axis=1), value.repeat(group, axis=1)
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(shape.head_dim)
    scores = scores + np.triu(np.full((tokens, tokens), -np.inf), 1)
    chance = np.exp(scores - scores.max(axis=-1, keepdims=True))
    chance = chance / chance.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", chance, value).reshape(tokens, -1)
    return np.asarray(mixed @ block["o"].T, np.float32)


def _turn(heads: F32, angles: F32, factor: float) -> F32:
    """Rotate dim i with dim i + half; what lies behind both halves stays as it is."""
    half = angles.shape[-1]
    cos, sin = np.cos(angles) * factor, np.sin(angles) * factor
    first, second = heads[..., :half], heads[..., half : 2 * half]
    turned = heads.copy()
    turned[..., :half] = first * cos - second * sin
    turned[..., half : 2 * half] = first * sin + second * cos
    return turned
