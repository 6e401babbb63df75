"""Rotary embedding facts of a Hugging Face `config.json`, old and new spelling. Arithmetic only.

Up to transformers 4 they stand in `rope_scaling` and beside it, from 5 on all in `rope_parameters`.
A fact that is stated in two places must be the same in both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import Rope

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

MAX_CONTEXT = 1 << 24

_Positive = Annotated[float, Meta(gt=0, le=1e12)]
# "su" is what Phi-3 first called LongRoPE.
_TYPES = {name: name for name in ("default", "linear", "llama3", "longrope")} | {"su": "longrope"}
# Stated beside `rope_scaling` in old files, and repeated there by some new ones.
_BESIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


class _Facts(Struct, frozen=True, forbid_unknown_fields=True):
    """All that the types we read may state; what is unknown could change the mathematics."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: _Positive | None = None
    partial_rotary_factor: Annotated[float, Meta(gt=0, le=1)] | None = None
    original_max_position_embeddings: Annotated[int, Meta(ge=1, le=MAX_CONTEXT)] | None = None
    factor: _Positive | None = None
    short_factor: tuple[_Positive, ...] | None = None
    long_factor: tuple[_Positive, ...] | None = None
    attention_factor: _Positive | None = None
    low_freq_factor: _Positive | None = None
    high_freq_factor: _Positive | None = None


def read_rope(config: Mapping[str, Any], *, head_dim: int, context: int) -> Rope:
    """Return the facts that `config`, the content of a `config.json`, states.

    Raises:
        ModelError: a scaling this version does not read; a fact is missing, mistyped, out of range,
            or stated twice and differently.
    """
    stated = _stated(config)
    kind = _kind(stated)
    try:
        facts = msgspec.convert(stated, _Facts)
    except msgspec.ValidationError as exc:
        msg = f"rotary embedding: {exc}"
        raise ModelError(msg) from exc
    theta = facts.rope_theta or 10_000.0  # as transformers, where a file says nothing
    # Truncated as the reference does it; 0.75 of 128 is exact.
    dims = int(head_dim * (facts.partial_rotary_factor or 1.0))
    if dims < 2 or dims % 2:  # noqa: PLR2004  # pairs are rotated
        msg = f"rotary embedding: {dims} of {head_dim} dims, which are no pairs"
        raise ModelError(msg)
    if kind == "longrope":
        return _longrope(facts, theta, dims, context)
    factors: tuple[float, ...] = ()
    if kind == "linear":
        factors = (_needed(facts.factor, "factor"),) * (dims // 2)
    elif kind == "llama3":
        factors = _llama3_factors(facts, theta, dims)
    return Rope(theta=theta, dims=dims, original_context=context, short_factors=factors)


def attention_factor(*, scale: float, original_context: int) -> float:
    """Return what LongRoPE multiplies cos and sin by, in short and in long mode alike.

    `sqrt(1 + ln(scale) / ln(original_context))`, with `scale` how often the original context goes
    into the model's (https://arxiv.org/abs/2402.13753; transformers `modeling_rope_utils`).
    """
    if scale <= 1 or original_context <= 1:
        return 1.0
    return math.sqrt(1 + math.log(scale) / math.log(original_context))


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all facts as if they stood in one object."""
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old is not None and new is not None and old != new:
        msg = "rope_scaling and rope_parameters are both there and differ"
        raise ModelError(msg)
    inside = new if old is None else old
    if not isinstance(inside, dict | None):
        msg = f"rope_parameters: {type(inside).__name__}, not an object"
        raise ModelError(msg)
    stated = {key: value for key, value in (inside or {}).items() if value is not None}
    for key in _BESIDE:
        beside = config.get(key)
        if beside is None:
            continue
        if stated.setdefault(key, beside) != beside:
            msg = f"{key} is stated twice: {stated[key]} and {beside}"
            raise ModelError(msg)
    return stated


def _kind(stated: Mapping[str, Any]) -> str:
    name = stated.get("rope_type", stated.get("type", "default"))
    if not isinstance(name, str) or name not in _TYPES:
        msg = f"rotary embedding of type {name!r}; this version reads {', '.join(_TYPES)}"
        raise ModelError(msg)
    return _TYPES[name]


def _longrope(facts: _Facts, theta: float, dims: int, context: int) -> Rope:
    original = _needed(facts.original_max_position_embeddings, "original_max_position_embeddings")
    return Rope(
        theta=theta,
        dims=dims,
        original_context=original,
        short_factors=_factors(facts.short_factor, "short_factor", dims),
        long_factors=_factors(facts.long_factor, "long_factor", dims),
        attention_factor=facts.attention_factor
        or attention_factor(scale=facts.factor or context / original, original_context=original),
    )


def _factors(stated: tuple[float, ...] | None, name: str, dims: int) -> tuple[float, ...]:
    factors = _needed(stated, name)
    if len(factors) != dims // 2:
        msg = f"rotary embedding: {len(factors)} numbers in {name}, expected {dims // 2}"
        raise ModelError(msg)
    return factors


def _llama3_factors(facts: _Facts, theta: float, dims: int) -> tuple[float, ...]:
    """Return what Llama 3.1 divides its frequencies by, at every length of a request.

    Long wavelengths by `factor`, short ones by 1, those between by a blend, linear in how often the
    wavelength goes into the original context (transformers `modeling_rope_utils`, type `llama3`).
    """
    factor = _needed(facts.factor, "factor")
    low = _needed(facts.low_freq_factor, "low_freq_factor")
    high = _needed(facts.high_freq_factor, "high_freq_factor")
    original = _needed(facts.original_max_position_embeddings, "original_max_position_embeddings")
    if low >= high:
        msg = f"rotary embedding: low_freq_factor {low} is not below high_freq_factor {high}"
        raise ModelError(msg)
    turns = [original / (2 * math.pi * theta ** (pair / dims)) for pair in range(0, dims, 2)]
    blends = [min(max((count - low) / (high - low), 0.0), 1.0) for count in turns]
    return tuple(1 / ((1 - blend) / factor + blend) for blend in blends)


def _needed(value: T | None, name: str) -> T:
    if value is None:
        msg = f"rotary embedding: {name} is missing"
        raise ModelError(msg)
    return value
