"""The importance of columns: what a text, carried through the float model, multiplies them with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.calibration import TEXT
from edge_agent.importers.compiler import write_weights
from edge_agent.importers.hf import open_hf
from edge_agent.importers.precision import TOKEN_PRODUCTS
from edge_agent.importers.quantize import symmetric
from edge_agent.importers.source import Model, Product
from edge_agent.importers.text_pass import TextPass, text_pass
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.manifest import Rope, Shape
from tests.importers import float_model
from tests.importers.tiny_hf import TinyHf
from tests.importers.tiny_model import FloatPart, tiny_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

SHAPE = Shape(
    layers=2, hidden=64, heads=4, kv_heads=2, head_dim=32,
    intermediate=96, vocab=70, norm_eps=1e-5,
)  # fmt: skip
# Partly rotated, and short: no more text is of use than the original context.
ROPE = Rope(
    theta=10_000.0,
    dims=16,
    original_context=24,
    short_factors=tuple(np.linspace(1.0, 1.5, 8).tolist()),
    long_factors=tuple(np.linspace(1.0, 9.0, 8).tolist()),
    attention_factor=1.2,
)
IDS = [(7 * number + number // 5) % 70 for number in range(24)]


def model(*, has_head: bool = True) -> Model:
    return tiny_model(shape=SHAPE, rope=ROPE, has_head=has_head)


def floats(of: Model) -> dict[str, F32]:
    weights = {
        product.name: np.concatenate([part.floats(0, part.rows) for part in product.parts])
        for product in of.products
    }
    return weights | {name: part.floats(0, 1)[0] for name, part in of.norms.items()}


def carried(of: Model, ids: Sequence[int], step: int = 1000) -> dict[str, F32 | None]:
    """Return the importance of all products, their rows met `step` at a time."""
    return carry(TextPass(of, ids), of, step)


def carry(passing: TextPass, of: Model, step: int = 1000) -> dict[str, F32 | None]:
    """Carry `passing` through; return the importance of all products."""
    found = {}
    for product in of.products:
        found[product.name] = passing.begin(product)
        if product.name not in TOKEN_PRODUCTS:
            rows = product.parts[0].floats(0, product.rows)
            for start in range(0, product.rows, step):
                passing.meet(rows[start : start + step], start)
            passing.end(product)
    return found


def test_what_meets_the_head_is_what_the_float_model_has_there() -> None:
    tiny = model()
    weights = floats(tiny)
    # A head that is the identity shows its input as logits.
    shown = weights | {"head": np.eye(64, dtype=np.float32)}
    inputs = float_model.logits(shown, SHAPE, ROPE, IDS)

    found = carried(tiny, IDS)

    expected = np.square(inputs).mean(axis=0)
    head = found["head"]
    assert head is not None
    np.testing.assert_allclose(head, expected, rtol=1e-4)
    assert found["embedding"] is None
    shapes = {name: None if array is None else array.shape for name, array in found.items()}
    assert shapes["layers.1.down"] == (96,)
    assert shapes["layers.0.o"] == (128,)


def test_the_first_product_meets_the_normed_embedding() -> None:
    tiny = model()
    weights = floats(tiny)
    rows = weights["embedding"][IDS]
    normed = rows / np.sqrt(np.square(rows).mean(1, keepdims=True) + 1e-5)

    found = carried(tiny, IDS)["layers.0.qkv"]

    expected = np.square(normed * weights["layers.0.attn_norm"]).mean(0)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sizes_of_the_first_layers_values_are_those_of_its_product() -> None:
    tiny = model()
    weights = floats(tiny)
    rows = weights["embedding"][IDS]
    normed = rows / np.sqrt(np.square(rows).mean(1, keepdims=True) + 1e-5)
    values = (normed * weights["layers.0.attn_norm"]) @ weights["layers.0.qkv"][-64:].T

    passing = TextPass(tiny, IDS)
    carry(passing, tiny, step=7)

    expected = np.abs(values).max(0).reshape(2, 32)
    np.testing.assert_allclose(passing.kv_sizes[0, 1], expected, rtol=1e-5)
    assert (passing.kv_sizes > 0).all()


def test_rows_may_come_in_any_pieces() -> None:
    whole, pieces = carried(model(), IDS), carried(model(), IDS, step=7)

    for name, array in whole.items():
        if array is not None:
            np.testing.assert_allclose(pieces[name], array, rtol=1e-5)  # type: ignore[arg-type]  # None in both or in none


def test_more_text_than_is_of_use_changes_nothing() -> None:
    one, other = carried(model(), IDS), carried(model(), IDS * 50)

    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array)


@pytest.mark.parametrize("ids", [[], [1] * 23, [70] * 24])
def test_text_that_is_too_short_or_not_the_models_is_refused(ids: list[int]) -> None:
    with pytest.raises(ModelError, match="24 or more of the model's are needed"):
        TextPass(model(), ids)


@pytest.mark.parametrize("size", [3e38, 3e30], ids=["themselves", "squared"])
def test_where_activations_overflow_the_text_ends_and_the_rest_matters_alike(size: float) -> None:
    tiny = model()
    huge = FloatPart("huge", np.full((64, 128), size, np.float32))
    products = [
        Product(name="layers.0.o", parts=(huge,)) if product.name == "layers.0.o" else product
        for product in tiny.products
    ]
    bent = replace(tiny, products=tuple(products))
    passing = TextPass(bent, IDS)

    found = carry(passing, bent)

    assert passing.problem == "layers.0.o: activations of the text are beyond float32"
    before = carried(tiny, IDS)
    for name in ("layers.0.qkv", "layers.0.o"):
        np.testing.assert_array_equal(found[name], before[name])
    assert [found[name] for name in ("layers.0.gate_up", "layers.1.qkv", "head")] == [None] * 3


@pytest.mark.parametrize("has_head", [True, False])
def test_weights_are_rounded_by_their_importance(tmp_path: Path, *, has_head: bool) -> None:
    tiny = model(has_head=has_head)
    found = carried(model(), IDS)

    regions = write_weights(tiny, Precision(head_bits=4), tmp_path / "w", TextPass(tiny, IDS))

    data = (tmp_path / "w").read_bytes()
    columns = dict(found)
    if not has_head:  # then the embedding is the head
        columns["embedding"] = columns.pop("head")
    for name, importance in columns.items():
        region = regions[f"{name}.values"]
        values = np.frombuffer(data, np.uint8, region.num_bytes, region.offset)
        expected = symmetric(floats(tiny)[name], bits=4, block=32, importance=importance)
        # Sums in another order move a weight in a thousand across an edge.
        assert (values != expected.values.reshape(-1)).mean() < 0.01


def test_a_text_is_read_from_a_file(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)
    (tmp_path / "text").write_bytes("héllo wörld ".encode() * 6000)  # cut within a character

    with open_hf(tmp_path) as opened:
        importance = text_pass(opened, tmp_path / "text")

        qkv = next(product for product in opened.products if product.name == "layers.0.qkv")
        columns = importance.begin(qkv)
    assert columns is not None
    assert columns.shape == (128,)


def test_the_text_that_comes_with_the_program_is_long_enough(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)

    with open_hf(tmp_path) as opened:
        text_pass(opened, TEXT)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"short", "text: a text of "), (b"\xff" * 99, "text: .*utf-8"), (None, "No such file")],
)
def test_a_file_without_enough_text_is_named(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    TinyHf().write(tmp_path)
    if content is not None:
        (tmp_path / "text").write_bytes(content)

    with open_hf(tmp_path) as opened, pytest.raises(ModelError, match=problem):
        text_pass(opened, tmp_path / "text")
