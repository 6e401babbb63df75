"""Which tensors of a Hugging Face checkpoint make which array of the decoder.

Llama keeps q, k, v and gate, up apart, Phi-3 fuses them; both store heads in the half form of
rotation, which is the decoder's. Every tensor must be known and of the expected shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from edge_agent.errors import ModelError
from edge_agent.importers.hf_config import Family
from edge_agent.importers.source import Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.hf_checkpoint import Checkpoint
    from edge_agent.importers.hf_config import HfConfig
    from edge_agent.importers.source import Part
    from edge_agent.modelstore.manifest import Shape

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Old checkpoints store the frequencies of rotation, which follow from the configuration.
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All weights of a model, by what they are in the decoder."""

    products: tuple[Product, ...]
    norms: dict[str, Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FloatPart:
    """A tensor of floats; a `source.Part`."""

    checkpoint: Checkpoint
    name: str
    rows: int
    columns: int
    blocks: None = None

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop), float32 [stop - start, columns]."""
        return self.checkpoint.rows(self.name, start, stop)

    def packed(self, start: int, stop: int) -> NoReturn:
        """Raise ModelError: there are no blocks."""
        msg = f"tensor {self.name!r}: rows {start} to {stop} are floats, not blocks"
        raise ModelError(msg)


def read_layout(checkpoint: Checkpoint, config: HfConfig) -> Layout:
    """Return the layout of `checkpoint`, whose dimensions `config` states.

    Raises:
        ModelError: a tensor is missing, has another shape, or is one this version would ignore.
    """
    tensors = _Tensors(checkpoint)
    layout = Layout(
        products=tuple(_products(tensors, config)), norms=dict(_norms(tensors, config.shape))
    )
    # transformers saves a tied head or leaves it out, and never reads it.
    tensors.refuse_rest(unless={_HEAD} if config.is_tied else set())
    return layout


class _Tensors:
    """Hands out tensors of the right shape and remembers which ones."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._taken: set[str] = set()

    def matrix(self, name: str, rows: int, columns: int) -> Part:
        self._check(name, (rows, columns))
        return _FloatPart(checkpoint=self._checkpoint, name=name, rows=rows, columns=columns)

    def vector(self, name: str, size: int) -> Part:
        self._check(name, (size,))
        return _FloatPart(checkpoint=self._checkpoint, name=name, rows=1, columns=size)

    def refuse_rest(self, *, unless: set[str]) -> None:
        rest = set(self._checkpoint.files) - self._taken - unless
        if unknown := sorted(name for name in rest if not _DERIVED.fullmatch(name)):
            msg = f"tensors this version would ignore: {', '.join(unknown[:5])}"
            raise ModelError(msg)

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        stored = self._checkpoint.tensor(name).shape
        if stored != shape:
            msg = f"tensor {name!r} is {list(stored)}, expected {list(shape)}"
            raise ModelError(msg)
        self._taken.add(name)


def _norms(tensors: _Tensors, shape: Shape) -> Iterator[tuple[str, Part]]:
    for layer in range(shape.layers):
        block = f"model.layers.{layer}"
        yield (
            f"layers.{layer}.attn_norm",
            tensors.vector(f"{block}.input_layernorm.weight", shape.hidden),
        )
        yield (
            f"layers.{layer}.ffn_norm",
            tensors.vector(f"{block}.post_attention_layernorm.weight", shape.hidden),
        )
    yield "norm", tensors.vector("model.norm.weight", shape.hidden)


def _products(tensors: _Tensors, config: HfConfig) -> Iterator[Product]:
    shape = config.shape
    yield _product("embedding", tensors.matrix(_EMBEDDING, shape.vocab, shape.hidden))
    for layer in range(shape.layers):
        yield from _layer(tensors, config.family, shape, layer)
    if not config.is_tied:
        yield _product("head", tensors.matrix(_HEAD, shape.vocab, shape.hidden))


def _layer(tensors: _Tensors, family: Family, shape: Shape, layer: int) -> Iterator[Product]:
    attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
    name, hidden = f"layers.{layer}", shape.hidden
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim

    def take(stem: str, *sides: tuple[str, int]) -> tuple[Part, ...]:
        return tuple(tensors.matrix(f"{stem}.{side}.weight", rows, hidden) for side, rows in sides)

    if family is Family.PHI3:
        qkv = take(attention, ("qkv_proj", wide + 2 * narrow))
        gate_up = take(mlp, ("gate_up_proj", 2 * shape.intermediate))
    else:
        qkv = take(attention, ("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow))
        gate_up = take(mlp, ("gate_proj", shape.intermediate), ("up_proj", shape.intermediate))
    yield _product(f"{name}.qkv", *qkv)
    yield _product(f"{name}.o", tensors.matrix(f"{attention}.o_proj.weight", hidden, wide))
    yield _product(f"{name}.gate_up", *gate_up)
    down = tensors.matrix(f"{mlp}.down_proj.weight", hidden, shape.intermediate)
    yield _product(f"{name}.down", down)


def _product(name: str, *parts: Part) -> Product:
    return Product(name=name, parts=parts)
