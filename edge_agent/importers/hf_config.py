"""What a Hugging Face `config.json` says of a model: family, dimensions, rotation, end tokens.

Fields that do not change the mathematics of the decoder are ignored; those that do must have the
value that this version's decoder has built in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.directory import naming
from edge_agent.importers.hf_rope import MAX_CONTEXT, read_rope
from edge_agent.modelstore.manifest import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.directory import Directory
    from edge_agent.modelstore.manifest import Rope

FILE_NAME = "config.json"
# Real ones take a few kilobytes; label lists and quantization notes may make them longer.
MAX_BYTES = 1 << 20

# Bounds far above any real model: a door works through all layers before it looks at weights.
MAX_LAYERS = 1 << 10
MAX_WIDTH = 1 << 20
MAX_VOCAB = 1 << 24

_Layers = Annotated[int, Meta(ge=1, le=MAX_LAYERS)]
_Width = Annotated[int, Meta(ge=1, le=MAX_WIDTH)]


class Family(StrEnum):
    """The architectures that are read, by the name that `architectures` gives them."""

    LLAMA = "LlamaForCausalLM"
    PHI3 = "Phi3ForCausalLM"


@dataclass(frozen=True, slots=True, kw_only=True)
class HfConfig:
    """A model as its `config.json` describes it."""

    family: Family
    shape: Shape
    rope: Rope
    context: int
    is_tied: bool
    """Whether the head is the embedding."""
    end_token_ids: tuple[int, ...]
    """What `eos_token_id` names; not checked against the vocabulary."""


class _Fields(Struct, frozen=True, kw_only=True):
    """The fields we use; names and defaults are those of transformers."""

    architectures: tuple[str, ...]
    hidden_size: _Width
    intermediate_size: _Width
    num_hidden_layers: _Layers
    num_attention_heads: _Width
    num_key_value_heads: _Width | None = None
    head_dim: _Width | None = None
    vocab_size: Annotated[int, Meta(ge=1, le=MAX_VOCAB)]
    rms_norm_eps: Annotated[float, Meta(gt=0, le=1)]
    max_position_embeddings: Annotated[int, Meta(ge=1, le=MAX_CONTEXT)]
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None
    tie_word_embeddings: bool = False
    eos_token_id: int | tuple[int, ...] | None = None


# What the decoder has built in. A field that is absent or null asks for nothing else.
_BUILT_IN: dict[str, str | bool | int] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "lm_head_bias": False,
    "rope_interleaved": False,
    "qk_layernorm": False,
    "use_qk_norm": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "full_attn_mod": 1,  # Phi-4-mini: attention of every layer sees everything
    "interpolate_factor": 1,
}
# Each of these changes the mathematics, whatever it holds.
_NOT_READ = ("quantization_config", "attn_logit_softcapping", "final_logit_softcapping")


def read_config(directory: Directory) -> HfConfig:
    """Read the `config.json` of `directory`.

    Raises:
        ModelError: missing, too large, or as `parse_config`.
    """
    fields = directory.read_json(FILE_NAME, limit_bytes=MAX_BYTES)
    with naming(FILE_NAME):
        return parse_config(fields)


def parse_config(fields: Mapping[str, Any]) -> HfConfig:
    """Return what `fields`, the content of a `config.json`, says.

    Raises:
        ModelError: an architecture or mathematics this version does not read; a field is missing,
            mistyped, or impossible.
    """
    family = _family(fields)
    try:
        config = msgspec.convert(fields, _Fields)
    except msgspec.ValidationError as exc:
        raise ModelError(str(exc)) from exc
    _check_mathematics(fields, config)
    shape = _shape(config)
    rope = read_rope(fields, head_dim=shape.head_dim, context=config.max_position_embeddings)
    if family is Family.LLAMA and rope.dims != shape.head_dim:
        msg = f"{rope.dims} rotated dims of {shape.head_dim}, which {family} does not have"
        raise ModelError(msg)
    return HfConfig(
        family=family,
        shape=shape,
        rope=rope,
        context=config.max_position_embeddings,
        is_tied=config.tie_word_embeddings,
        end_token_ids=token_ids(config.eos_token_id),
    )


def token_ids(stated: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the ids of an `eos_token_id`, which may be one, several or none."""
    if stated is None:
        return ()
    return (stated,) if isinstance(stated, int) else stated


def _family(fields: Mapping[str, Any]) -> Family:
    stated = fields.get("architectures")
    known = list(Family)
    for family in known:
        if stated == [family.value]:
            return family
    msg = f"architectures {stated!r:.200} is not read by this version; it reads {', '.join(known)}"
    raise ModelError(msg)


def _check_mathematics(fields: Mapping[str, Any], config: _Fields) -> None:
    for name, value in _BUILT_IN.items():
        if fields.get(name, value) not in (value, None):
            msg = f"{name} is {fields[name]!r:.100}; this version reads {value!r}"
            raise ModelError(msg)
    for name in _NOT_READ:
        if fields.get(name) is not None:
            msg = f"{name} is not read by this version"
            raise ModelError(msg)
    window, context = config.sliding_window, config.max_position_embeddings
    if window is not None and window < context:
        msg = f"a sliding window of {window} tokens in a context of {context} is not supported"
        raise ModelError(msg)
    if strange := set(config.layer_types or ()) - {"full_attention"}:
        msg = f"layers of type {min(strange)!r} are not read by this version"
        raise ModelError(msg)


def _shape(config: _Fields) -> Shape:
    heads = config.num_attention_heads
    kv_heads = config.num_key_value_heads or heads
    if heads % kv_heads:
        msg = f"{heads} attention heads share {kv_heads} key-value heads unevenly"
        raise ModelError(msg)
    if config.head_dim is None and config.hidden_size % heads:
        msg = f"hidden_size {config.hidden_size} is no multiple of {heads} attention heads"
        raise ModelError(msg)
    head_dim = config.head_dim or config.hidden_size // heads
    if heads * head_dim > MAX_WIDTH:
        msg = f"{heads} heads of {head_dim} dims, the limit is {MAX_WIDTH} in all"
        raise ModelError(msg)
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        norm_eps=config.rms_norm_eps,
    )
