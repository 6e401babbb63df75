"""The arena commits memory when touched and gives it back when a slot is released."""

import mmap
from typing import NoReturn

import msgspec
import numpy as np
import psutil
import pytest

from edge_agent.engine.kv_cache import KvArena, KvDtype, capacity_for
from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import Shape

SHAPE = Shape(
    layers=2, hidden=64, heads=4, kv_heads=4, head_dim=64, intermediate=64, vocab=8, norm_eps=1e-5
)


@pytest.mark.parametrize(("kv_heads", "head_dim"), [(3, 64), (8, 128), (1, 32), (5, 80)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_a_slot_is_whole_pages(kv_heads: int, head_dim: int, dtype: type) -> None:
    shape = Shape(
        layers=1, hidden=1, heads=1, kv_heads=kv_heads, head_dim=head_dim,
        intermediate=1, vocab=1, norm_eps=1e-5,
    )  # fmt: skip
    capacity = capacity_for(shape, tokens=1001, dtype=dtype)

    assert capacity >= 1001
    assert capacity * kv_heads * head_dim * np.dtype(dtype).itemsize % 4096 == 0


def test_memory_comes_with_the_tokens_and_goes_with_the_slot() -> None:
    arena = KvArena(SHAPE, slots=2, capacity=32_768, dtype=np.float32)
    process = psutil.Process()
    before = process.memory_info().rss

    for sides in arena.layers:
        for array in sides:
            array[1] = 1.0
    touched = process.memory_info().rss - before
    assert touched > 100 << 20  # 4 arrays of 32 MiB

    arena.release(1)
    assert process.memory_info().rss - before < touched / 4
    assert all(not array[1].any() for sides in arena.layers for array in sides)


def test_releasing_a_slot_leaves_its_neighbours() -> None:
    arena = KvArena(SHAPE, slots=3, capacity=64, dtype=np.float32)
    for sides in arena.layers:
        for array in sides:
            array[:] = 1.0

    arena.release(1)

    for sides in arena.layers:
        for array in sides:
            assert array[0].all()
            assert array[2].all()
            assert not array[1].any()


def test_a_copy_has_the_tokens_it_names_and_no_others() -> None:
    arena = KvArena(SHAPE, slots=2, capacity=64, dtype=np.float32)
    for number, sides in enumerate(arena.layers):
        for array in sides:
            array[0] = np.arange(64)[None, :, None] + 100.0 * (number + 1)

    arena.copy(0, 1, start=5, stop=9)

    for sides in arena.layers:
        for array in sides:
            assert (array[1, :, 5:9] == array[0, :, 5:9]).all()
            assert not array[1, :, :5].any()
            assert not array[1, :, 9:].any()


@pytest.mark.parametrize("head_dim", [64, 80])
def test_the_end_of_a_slot_goes_back_and_its_beginning_stays(head_dim: int) -> None:
    shape = msgspec.structs.replace(SHAPE, head_dim=head_dim)
    capacity = capacity_for(shape, tokens=4000, dtype=np.float32)
    arena = KvArena(shape, slots=2, capacity=capacity, dtype=np.float32)
    process = psutil.Process()
    before = process.memory_info().rss
    for sides in arena.layers:
        for array in sides:
            array[:] = 1.0

    arena.release(0, keep_tokens=1001)
    arena.release(1)

    assert process.memory_info().rss - before < arena.bytes_of(1001) + (1 << 20)
    for sides in arena.layers:
        for array in sides:
            assert array[0, :, :1001].all()
            assert not array[0, :, 1001 + mmap.PAGESIZE // (head_dim * 4) + 1 :].any()


def test_a_full_slot_may_be_kept_whole() -> None:
    arena = KvArena(SHAPE, slots=1, capacity=64, dtype=np.float32)
    for sides in arena.layers:
        for array in sides:
            array[:] = 1.0

    arena.release(0, keep_tokens=64)

    assert all(array.all() for sides in arena.layers for array in sides)


def test_memory_of_tokens_is_counted_in_pages() -> None:
    arena = KvArena(SHAPE, slots=1, capacity=4096, dtype=np.float32)
    tokens_per_page = mmap.PAGESIZE // (64 * 4)
    strips = 2 * 2 * 4  # of each layer, K and V, each head

    held = [arena.bytes_of(n) // strips for n in (0, 1, tokens_per_page, tokens_per_page + 1)]
    assert held == [0, mmap.PAGESIZE, mmap.PAGESIZE, 2 * mmap.PAGESIZE]


def test_caches_may_be_larger_than_all_memory() -> None:
    # Phi-4-mini's longest context and the most slots there can be, at one layer: 69 GB.
    shape = msgspec.structs.replace(SHAPE, layers=1, kv_heads=8, head_dim=128)
    process = psutil.Process()
    before = process.memory_info().rss

    arena = KvArena(shape, slots=64, capacity=131_072 + 128, dtype=np.float32)
    arena.layers[0][1][63, :, 131_071] = 1.0

    assert process.memory_info().rss - before < 1 << 20
    arena.release(63)
    assert not arena.layers[0][1][63, :, 131_071].any()


def test_without_addresses_the_knobs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(ModelError, match=r"Cannot allocate memory.*engine\.slots or engine\.cont"):
        KvArena(SHAPE, slots=2, capacity=64, dtype=np.float32)


def test_half_precision_attends_in_half_precision_and_int8_in_floats() -> None:
    assert [(str(kind.stored), str(kind.computed)) for kind in KvDtype] == [
        ("float32", "float32"),
        ("float16", "float16"),
        ("int8", "float32"),
    ]


def test_what_is_stored_is_held_from_its_place_on() -> None:
    arena = KvArena(SHAPE, slots=2, capacity=64, dtype=np.int8)
    strips = np.random.default_rng(0).integers(1, 100, (2, 2, 4, 5, 64)).astype(np.int8)

    arena.store(1, strips, start=7)

    for layer, sides in enumerate(arena.layers):
        for number, array in enumerate(sides):
            assert np.array_equal(array[1, :, 7:12], strips[layer, number])
            assert not array[0].any()
            assert not array[1, :, :7].any()
            assert not array[1, :, 12:].any()


def test_attached_strips_are_copied_like_those_of_a_slot() -> None:
    arena = KvArena(SHAPE, slots=2, capacity=64, dtype=np.float32)
    strips = np.random.default_rng(0).standard_normal(arena.strips_shape(9)).astype(np.float32)

    assert arena.attach(np.zeros_like(strips)) == 2
    number = arena.attach(strips)
    arena.copy(number, 1, start=2, stop=9)

    assert np.array_equal(arena.strips(1, 9)[..., 2:, :], strips[..., 2:, :])
    assert not arena.strips(1, 9)[..., :2, :].any()
