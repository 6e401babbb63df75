"""A model has all weights of its shape, and no others."""

from __future__ import annotations

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.source import Model, Part, Product, check, norm_names, product_shapes
from tests.importers.tiny_model import SHAPE, FloatPart, random_floats, tiny_model


def test_shapes_and_names_are_those_of_the_decoder() -> None:
    assert product_shapes(SHAPE) == {
        "embedding": (70, 64),
        "layers.0.qkv": (128, 64),
        "layers.0.o": (64, 64),
        "layers.0.gate_up": (192, 64),
        "layers.0.down": (64, 96),
        "head": (70, 64),
    }
    assert norm_names(SHAPE) == ("layers.0.attn_norm", "layers.0.ffn_norm", "norm")


@pytest.mark.parametrize("has_head", [False, True])
def test_a_whole_model_passes(*, has_head: bool) -> None:
    model = tiny_model(has_head=has_head)

    check(model)

    assert model.num_weights == 128 * 64 + 64 * 64 + 192 * 64 + 64 * 96 + 70 * 64 * (1 + has_head)


def changed(model: Model, **changes: object) -> Model:
    facts = {name: getattr(model, name) for name in model.__slots__}
    return Model(**facts | changes)


def part(rows: int, columns: int) -> FloatPart:
    return FloatPart("part", random_floats(rows, columns))


@pytest.mark.parametrize(
    ("name", "parts", "problem"),
    [
        ("layers.0.o", [part(32, 64), part(31, 64)], "layers.0.o is 63 x 64, expected 64 x 64"),
        ("layers.0.o", [part(32, 64), part(32, 32)], "part is 32 x 32, expected 32 x 64"),
        ("head", [part(70, 32)], "part is 70 x 32, expected 70 x 64"),
        ("layers.1.o", [part(64, 64)], "product layers.1.o is unknown"),
    ],
)
def test_a_product_of_another_shape_is_named(name: str, parts: list[Part], problem: str) -> None:
    product = Product(name=name, parts=tuple(parts))

    with pytest.raises(ModelError) as caught:
        check(tiny_model({name: product}))

    assert str(caught.value) == problem


def test_a_missing_product_is_named() -> None:
    model = tiny_model()

    with pytest.raises(ModelError, match=r"product layers\.0\.down is missing"):
        check(changed(model, products=model.products[:-1]))


def test_a_product_that_comes_twice_is_refused() -> None:
    model = tiny_model()

    with pytest.raises(ModelError, match="a product comes twice"):
        check(changed(model, products=(*model.products, model.products[0])))


@pytest.mark.parametrize(
    ("norms", "problem"),
    [
        ({"norm": part(1, 32)}, "part is 1 x 32, expected 1 x 64"),
        ({"norm": part(2, 64)}, "part is 2 x 64, expected 1 x 64"),
        ({"layers.1.ffn_norm": part(1, 64)}, "norm layers.1.ffn_norm is unknown"),
    ],
)
def test_a_norm_of_another_shape_is_named(norms: dict[str, Part], problem: str) -> None:
    model = tiny_model()

    with pytest.raises(ModelError) as caught:
        check(changed(model, norms=model.norms | norms))

    assert str(caught.value) == problem


def test_a_missing_norm_is_named() -> None:
    with pytest.raises(ModelError, match=r"norm layers\.0\.attn_norm is missing"):
        check(changed(tiny_model(), norms={}))
