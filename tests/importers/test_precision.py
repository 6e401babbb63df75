"""What each weight is stored as, by what the source has and what is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.precision import Storage, activations, storage
from edge_agent.importers.source import Blocks, Product
from edge_agent.modelstore.card import Precision
from tests.importers.tiny_model import (
    BlockPart,
    FloatPart,
    random_blocks,
    random_floats,
    tiny_model,
)

FLOAT = None
Q4_0, Q8_0 = Blocks(bits=4, block=32), Blocks(bits=8, block=32)
Q4_1 = Blocks(bits=4, block=32, has_offsets=True)
WIDE = Blocks(bits=4, block=128)
NARROW = Blocks(bits=8, block=16)
POINTS = Blocks(bits=4, block=64, has_zero_points=True)

LINEAR = "layers.0.down"


def product(name: str, *kinds: Blocks | None, columns: int = 384) -> Product:
    return Product(
        name=name,
        parts=tuple(
            FloatPart(name, random_floats(2, columns))
            if kind is None
            else BlockPart(name, random_blocks(2, columns, kind))
            for kind in kinds
        ),
    )


@pytest.mark.parametrize("kind", [Q4_0, Q8_0, Q4_1, WIDE, NARROW, POINTS])
@pytest.mark.parametrize("name", [LINEAR, "head"])
def test_blocks_are_kept_when_nothing_or_the_same_is_asked_for(kind: Blocks, name: str) -> None:
    found = [storage(product(name, kind, kind), Precision())]
    if kind is Q4_0:
        found.append(storage(product(name, kind), Precision(bits=4, block=32, head_bits=4)))
    if kind is WIDE:
        found.append(storage(product(name, kind), Precision(block=128)))

    assert found == [Storage(blocks=kind, is_carried=True)] * len(found)


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, WIDE, POINTS])
@pytest.mark.parametrize("name", [LINEAR, "head"])
def test_blocks_of_4_bits_are_kept_in_8_bits(kind: Blocks, name: str) -> None:
    found = storage(product(name, kind), Precision(bits=8))

    assert found == Storage(blocks=replace(kind, bits=8), is_carried=True)


@pytest.mark.parametrize(
    ("name", "kinds", "asked", "bits", "block"),
    [
        # Floats: the default, or what is asked for.
        (LINEAR, [FLOAT], Precision(), 4, 32),
        ("head", [FLOAT], Precision(), 8, 32),
        ("embedding", [FLOAT], Precision(), 8, 32),
        (LINEAR, [FLOAT], Precision(bits=8), 8, 32),
        (LINEAR, [FLOAT], Precision(block=128), 4, 128),
        ("head", [FLOAT], Precision(bits=4), 8, 32),
        ("head", [FLOAT], Precision(bits=8, block=64), 8, 64),
        ("embedding", [FLOAT], Precision(bits=4, block=128, head_bits=4), 4, 128),
        ("embedding", [FLOAT], Precision(bits=32, head_bits=8), 8, 32),
        # Blocks, but others are asked for; what is left out is as the source has it.
        (LINEAR, [Q4_0], Precision(bits=8, block=64), 8, 64),
        (LINEAR, [Q8_0], Precision(block=128), 8, 128),
        (LINEAR, [Q8_0, Q8_0], Precision(bits=4), 4, 32),
        (LINEAR, [Q4_1], Precision(block=64), 4, 64),
        (LINEAR, [NARROW], Precision(bits=4), 4, 32),
        ("embedding", [Q8_0], Precision(head_bits=4), 4, 32),
        # Parts of different kinds are one array: as precise as the most precise of them.
        (LINEAR, [Q4_1, Q8_0], Precision(), 8, 32),
        (LINEAR, [WIDE, Q4_0], Precision(), 4, 32),
        (LINEAR, [Q8_0, FLOAT], Precision(), 4, 32),
        # A look-up of rows has no place for offsets.
        ("embedding", [Q4_1], Precision(), 8, 32),
        ("embedding", [Q4_1], Precision(head_bits=4), 4, 32),
    ],
)
def test_all_else_is_rounded(
    name: str, kinds: list[Blocks | None], asked: Precision, bits: int, block: int
) -> None:
    found = storage(product(name, *kinds), asked)

    assert found == Storage(blocks=Blocks(bits=bits, block=block))


@pytest.mark.parametrize("name", [LINEAR, "embedding", "head"])
@pytest.mark.parametrize("kind", [FLOAT, Q4_1, Q8_0])
def test_32_bits_are_floats(name: str, kind: Blocks | None) -> None:
    assert storage(product(name, kind), Precision(bits=32)) == Storage(blocks=None)


@pytest.mark.parametrize(
    ("columns", "asked", "block"), [(576, 128, 64), (96, 128, 32), (64, 64, 64), (640, 128, 128)]
)
def test_blocks_are_the_largest_that_divide_the_rows(columns: int, asked: int, block: int) -> None:
    found = storage(product(LINEAR, FLOAT, columns=columns), Precision(block=asked))  # type: ignore[arg-type]  # one of the choices

    assert found.blocks == Blocks(bits=4, block=block)


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(ModelError, match=r"layers\.0\.down: rows of 48 weights are not whole"):
        storage(product(LINEAR, FLOAT, columns=48), Precision())


def test_activations_are_exact_in_small_models_unless_asked_for() -> None:
    assert activations(tiny_model(), Precision()) == "exact"
    assert activations(tiny_model(), Precision(activations="int8")) == "int8"
