"""Dimensions are those of the weights, and every weight must have them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.genai_layout import read_norms, read_products, read_shape
from edge_agent.importers.genai_tensors import Tensor
from edge_agent.modelstore.manifest import Shape
from tests.importers.tiny_genai import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KV_HEADS,
    VOCAB,
    TinyGenai,
    find_decoder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.importers.genai_decoder import Decoder


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    """Return a decoder with q, k, v and gate, up apart."""
    return find_decoder(tmp_path, TinyGenai())


def test_dimensions_are_those_of_the_weights(decoder: Decoder) -> None:
    assert read_shape(decoder) == Shape(
        layers=2,
        hidden=HIDDEN,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        intermediate=INTERMEDIATE,
        vocab=VOCAB,
        norm_eps=1e-5,
    )


def test_products_are_named_in_the_order_of_the_decoder(decoder: Decoder) -> None:
    shape = read_shape(decoder)

    tied = [product.name for product in read_products(decoder, shape, is_tied=True)]
    untied = [product.name for product in read_products(decoder, shape, is_tied=False)]

    layers = [f"layers.{i}.{name}" for i in range(2) for name in ("qkv", "o", "gate_up", "down")]
    assert tied == ["embedding", *layers]
    assert untied == [*tied, "head"]
    assert set(read_norms(decoder, shape)) == {
        "norm",
        *(f"layers.{i}.{name}" for i in range(2) for name in ("attn_norm", "ffn_norm")),
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"heads": 0}, "0 attention heads and 1 key-value heads"),
        ({"heads": 3, "kv_heads": 2}, "3 attention heads and 2 key-value heads"),
        ({"kv_heads": -1}, "2 attention heads and -1 key-value heads"),
        ({"heads": 2**40}, "1099511627776 attention heads"),
        ({"heads": 1000, "kv_heads": 1}, "impossible dimensions"),  # no dims are left for a head
        ({"scale": 1.0}, r"attention scores are scaled by 1\.0, expected 0\.17677"),
    ],
)
def test_impossible_attention_is_refused(
    decoder: Decoder, changes: dict[str, float], problem: str
) -> None:
    attention = replace(decoder.attention, **changes)  # type: ignore[arg-type]

    with pytest.raises(ModelError, match=problem):
        read_shape(replace(decoder, attention=attention))


def test_a_scale_may_be_left_to_the_kernel(decoder: Decoder) -> None:
    left = replace(decoder, attention=replace(decoder.attention, scale=0.0))

    assert read_shape(left) == read_shape(decoder)


@pytest.mark.parametrize("product", ["qkv", "o", "gate_up", "down"])
def test_a_weight_of_another_shape_is_named(decoder: Decoder, product: str) -> None:
    shape = read_shape(decoder)
    layer = decoder.layers[1]
    wrong = (layer.o, layer.o) if product in {"qkv", "gate_up"} else decoder.head
    layers = (decoder.layers[0], replace(layer, **{product: wrong}))  # type: ignore[arg-type]

    with pytest.raises(ModelError, match=rf"layers\.1\.{product}: weights of .*, expected rows"):
        read_products(replace(decoder, layers=layers), shape, is_tied=True)


def test_an_embedding_that_is_not_the_heads_size_is_refused(decoder: Decoder) -> None:
    wrong = replace(decoder, embedding=decoder.layers[0].down)

    with pytest.raises(ModelError, match="embedding: weights of"):
        read_products(wrong, read_shape(decoder), is_tied=False)


@pytest.mark.parametrize(
    "norm",
    [
        Tensor(name="n", shape=(HIDDEN + 1,), dtype="FLOAT"),
        Tensor(name="n", shape=(HIDDEN, 1), dtype="FLOAT"),
        Tensor(name="n", shape=(HIDDEN,), dtype="INT64"),
    ],
    ids=["longer", "a matrix", "integers"],
)
def test_a_norm_that_is_no_vector_is_refused(decoder: Decoder, norm: Tensor) -> None:
    first = replace(decoder.layers[0], attn_norm=norm)
    wrong = replace(decoder, layers=(first, decoder.layers[1]))

    with pytest.raises(ModelError, match=r"tensor 'n': .*, expected 64"):
        read_norms(wrong, read_shape(decoder))
