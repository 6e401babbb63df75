"""The arena commits memory when touched and gives it back when a slot is released."""

import numpy as np
import psutil
import pytest

from edge_agent.engine.kv_cache import KvArena, capacity_for
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
