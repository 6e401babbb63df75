"""A chunk that attends apart over an int8 cache: the same as in the kernel for such caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.engine import decoder as engine_decoder
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.importers import graph
from edge_agent.modelstore.manifest import Shape
from edge_agent.modelstore.scales import SCALES
from tests.importers.tiny_decoder import CONTEXT, SHAPE, Kind, TinyDecoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Four heads of K and V, of which one is floats at a time.
WIDE = Shape(
    layers=2, hidden=128, heads=8, kv_heads=4, head_dim=128,
    intermediate=256, vocab=160, norm_eps=1e-5,
)  # fmt: skip
PROMPT = [(7 * i * i + 3) % 160 for i in range(60)]


@pytest.fixture(params=[SHAPE, WIDE], ids=["one group", "four groups"])
def decoder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Decoder:
    monkeypatch.setattr(engine_decoder, "_LEAST_CHUNK_TOKENS", 12)
    shape: Shape = request.param
    # Floats: a product of theirs is the same whatever the number of rows.
    manifest, _ = TinyDecoder(kinds={"": Kind(32)}, shape=shape).write(tmp_path)
    # Uneven, so that a scale of another head or side would show.
    sizes = np.random.default_rng(1).uniform(6, 12, (2, 2, shape.kv_heads, shape.head_dim))
    write_kv_scales(tmp_path / SCALES, shape, (sizes / 127).astype(np.float32))
    return Decoder(tmp_path, manifest, slots=4, tokens=CONTEXT, threads=1, kv_dtype=KvDtype.INT8)


def row(slot: int, past: int, tokens: list[int], *, logits: int = 1) -> Row:
    return Row(slot=slot, past=past, tokens=tokens, num_logits=logits)


def never_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_decoder, "_LEAST_CHUNK_TOKENS", 1000)


def strips(decoder: Decoder, slot: int) -> list[NDArray[np.int8]]:
    return [side[slot, :, :60].copy() for sides in decoder.arena.layers for side in sides]


def test_it_gives_what_the_kernel_gives(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(slot: int) -> NDArray[np.float32]:
        decoder.forward([row(slot, 0, PROMPT[:20])])
        decoder.forward([row(slot, 20, PROMPT[20:45])])
        return decoder.forward([row(slot, 45, PROMPT[45:], logits=15)]).copy()

    apart = read(1)
    never_apart(monkeypatch)
    together = read(2)

    # Its own tokens are not rounded before they are seen: near, and not the same.
    assert np.abs(apart - together).max() < 0.05 * np.abs(together).max()
    steps = np.abs(np.array(strips(decoder, 1), np.int16) - np.array(strips(decoder, 2), np.int16))
    assert steps[:2, :, :20].max() == 0  # of the first layer, which nothing rounded came before
    assert np.mean(steps > 2) < 0.01


def test_rows_beside_it_are_as_without_it(decoder: Decoder) -> None:
    for slot in (0, 3):
        decoder.forward([row(slot, 0, PROMPT[:9])])
    alone = [
        decoder.forward([row(0, 9, [5], logits=1)]).copy(),
        decoder.forward([row(2, 0, PROMPT[:30], logits=2)]).copy(),
        decoder.forward([row(3, 9, [8, 9], logits=2)]).copy(),
    ]
    kept = strips(decoder, 2)
    decoder.arena.release(2)

    both = decoder.forward(
        [row(0, 9, [5]), row(2, 0, PROMPT[:30], logits=2), row(3, 9, [8, 9], logits=2)]
    )

    np.testing.assert_allclose(both, np.concatenate(alone), atol=1e-4 * np.abs(both).max())
    assert all(map(np.array_equal, strips(decoder, 2), kept))


def test_positions_of_the_long_mode_are_honoured(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = decoder.rope.long_offset
    assert offset

    def keys(slot: int, offset: int) -> NDArray[np.int8]:
        """Read a chunk; return the keys of the first layer, which hold positions and no more."""
        tokens = PROMPT[:40]
        decoder.forward(
            [Row(slot=slot, past=0, tokens=tokens, num_logits=1, position_offset=offset)]
        )
        return strips(decoder, slot)[0][:, :40]

    apart, short = keys(0, offset), keys(1, 0)
    never_apart(monkeypatch)

    assert np.array_equal(apart, keys(2, offset))
    assert not np.array_equal(apart, short)


def test_a_graph_of_old_reads_all_rows_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = TinyDecoder()
    with monkeypatch.context() as patched:
        patched.setattr(graph, "chunk_inputs", list)
        patched.setattr(graph, "chunk_outputs", lambda _shape: [])
        patched.setattr(graph, "ChunkAttention", lambda *_: None)
        manifest, _ = tiny.write(tmp_path)
    scales = np.full((2, 2, SHAPE.kv_heads, SHAPE.head_dim), 8 / 127, np.float32)
    write_kv_scales(tmp_path / SCALES, SHAPE, scales)

    old = Decoder(tmp_path, manifest, slots=1, tokens=CONTEXT, threads=1, kv_dtype=KvDtype.INT8)

    assert old.forward([row(0, 0, PROMPT)]).shape == (1, 160)
