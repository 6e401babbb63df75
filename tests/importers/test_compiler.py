"""The weights file of a model whose weights are of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers import compiler
from edge_agent.importers.compiler import write_weights
from edge_agent.importers.quantize import Packed, symmetric
from edge_agent.importers.source import Blocks, Product
from edge_agent.importers.weights import ALIGNMENT_BYTES
from edge_agent.modelstore.card import Precision
from tests.importers.tiny_model import (
    SHAPE,
    BlockPart,
    FloatPart,
    cut,
    random_blocks,
    random_floats,
    tiny_model,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.importers.weights import Region

    Written = dict[str, NDArray[Any]]

QKV, GATE_UP, DOWN = "layers.0.qkv", "layers.0.gate_up", "layers.0.down"


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut these small weights in many slabs, of 7 rows or less."""
    monkeypatch.setattr(compiler, "SLAB_WEIGHTS", 7 * SHAPE.hidden)


def read(path: Path, regions: dict[str, Region]) -> Written:
    data = path.read_bytes()
    return {
        name: np.frombuffer(data, region.dtype, int(np.prod(region.shape)), region.offset).reshape(
            region.shape
        )
        for name, region in regions.items()
    }


def written(path: Path, asked: Precision, *products: Product, has_head: bool = False) -> Written:
    model = tiny_model({product.name: product for product in products}, has_head=has_head)
    return read(path / "w", write_weights(model, asked, path / "w"))


def joined(*packed: Packed) -> Packed:
    return Packed(
        bits=packed[0].bits,
        values=np.concatenate([one.values for one in packed]),
        scales=np.concatenate([one.scales for one in packed]),
    )


@pytest.mark.parametrize(
    "kind",
    [
        Blocks(bits=4, block=32),
        Blocks(bits=8, block=16),
        Blocks(bits=4, block=64, has_zero_points=True),
        Blocks(bits=8, block=32, has_zero_points=True),
        Blocks(bits=4, block=32, has_offsets=True),
    ],
)
def test_blocks_of_all_parts_are_carried_over_bit_for_bit(tmp_path: Path, kind: Blocks) -> None:
    parts = [random_blocks(rows, 64, kind, seed=rows) for rows in (64, 33, 31)]
    product = Product(name=QKV, parts=tuple(BlockPart(QKV, part) for part in parts))

    found = written(tmp_path, Precision(), product)

    expected = {
        "values": np.concatenate([part.values for part in parts]),
        "scales": np.concatenate([part.scales for part in parts]),
    }
    if kind.has_zero_points:
        expected["zero_points"] = np.concatenate(
            [p.zero_points for p in parts if p.zero_points is not None]
        )
    if kind.has_offsets:
        expected["offsets"] = np.concatenate([p.offsets for p in parts if p.offsets is not None]).T
    assert {name.removeprefix(f"{QKV}.") for name in found if name.startswith(QKV)} == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[f"{QKV}.{name}"], array)


@pytest.mark.parametrize("kind", [{}, {"has_offsets": True}, {"has_zero_points": True}])
def test_blocks_of_4_bits_stand_for_the_same_in_8_bits(
    tmp_path: Path, kind: dict[str, bool]
) -> None:
    blocks = random_blocks(64, 96, Blocks(bits=4, block=32, **kind))
    product = Product(name=DOWN, parts=(BlockPart(DOWN, blocks),))

    found = written(tmp_path, Precision(bits=8), product)

    offsets = found.get(f"{DOWN}.offsets")
    wide = Packed(
        bits=8,
        values=found[f"{DOWN}.values"],
        scales=found[f"{DOWN}.scales"],
        offsets=None if offsets is None else offsets.T,
        zero_points=found.get(f"{DOWN}.zero_points"),
    )
    np.testing.assert_array_equal(wide.floats(), blocks.floats())


def test_parts_of_different_kinds_become_one_array(tmp_path: Path) -> None:
    gate, up = random_blocks(96, 64, Blocks(bits=8, block=32)), random_floats(96, 64, seed=3)
    product = Product(name=GATE_UP, parts=(BlockPart("gate", gate), FloatPart("up", up)))

    found = written(tmp_path, Precision(), product)

    expected = joined(symmetric(gate.floats(), bits=4, block=32), symmetric(up, bits=4, block=32))
    np.testing.assert_array_equal(found[f"{GATE_UP}.values"], expected.values)
    np.testing.assert_array_equal(found[f"{GATE_UP}.scales"], expected.scales)


def test_weights_are_rounded_as_asked(tmp_path: Path) -> None:
    found = written(tmp_path, Precision(bits=8, block=64), has_head=True)

    weights = random_floats(SHAPE.hidden, SHAPE.intermediate, seed=4)
    expected = symmetric(weights, bits=8, block=32)  # 64 does not divide 96
    np.testing.assert_array_equal(found[f"{DOWN}.values"], expected.values)
    assert found["embedding.values"].shape == found["head.values"].shape == (70, 1, 64)


def test_floats_stay_floats_if_asked(tmp_path: Path) -> None:
    found = written(tmp_path, Precision(bits=32))

    np.testing.assert_array_equal(found[f"{DOWN}.floats"], random_floats(64, 96, seed=4))
    np.testing.assert_array_equal(found["embedding.floats"], random_floats(70, 64, seed=0))
    assert not [name for name in found if name.endswith((".values", ".scales"))]


def test_norms_are_written_as_they_are(tmp_path: Path) -> None:
    found = written(tmp_path, Precision())

    for number, name in enumerate(("layers.0.attn_norm", "layers.0.ffn_norm", "norm")):
        np.testing.assert_array_equal(found[name], random_floats(1, 64, seed=100 + number)[0])


def test_arrays_lie_on_pages_in_an_order_that_is_not_the_doors(tmp_path: Path) -> None:
    model = tiny_model()
    one = write_weights(model, Precision(), tmp_path / "one")
    shuffled = type(model)(
        **{
            **{name: getattr(model, name) for name in model.__slots__},
            "products": tuple(reversed(model.products)),
            "norms": dict(reversed(model.norms.items())),
        }
    )

    other = write_weights(shuffled, Precision(), tmp_path / "other")

    assert one == other
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert all(region.offset % ALIGNMENT_BYTES == 0 for region in one.values())


def test_weights_that_cannot_be_stored_as_asked_leave_no_file(tmp_path: Path) -> None:
    odd = Product(name="embedding", parts=(FloatPart("odd", random_floats(70, 48)),))

    with pytest.raises(ModelError, match="odd is 70 x 48, expected 70 x 64"):
        written(tmp_path, Precision(), odd)

    assert not (tmp_path / "w").exists()


def test_only_a_slab_is_asked_for_at_a_time(tmp_path: Path) -> None:
    asked: list[int] = []

    class Watched(BlockPart):
        def packed(self, start: int, stop: int) -> Packed:
            asked.append(stop - start)
            return cut(self.stored, start, stop)

    down = Watched(DOWN, random_blocks(64, 96, Blocks(bits=4, block=32)))

    written(tmp_path, Precision(), Product(name=DOWN, parts=(down,)))

    assert (max(asked), sum(asked)) == (7 * 64 // 96, 64)
