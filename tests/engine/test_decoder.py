"""Loading: what a package lacks is named. Stepping: rows do not disturb each other in any cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.errors import ModelError
from edge_agent.modelstore.scales import SCALES
from tests.importers.tiny_decoder import CONTEXT, SHAPE, Kind, TinyDecoder

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = [5, 150, 17, 99, 3, 80, 42, 42, 7, 101, 64]


def with_scales(package: Path, kv_dtype: KvDtype, *, slots: int) -> Decoder:
    """Load a tiny decoder; keys and values of it stay below 8."""
    # Floats: a product of theirs is the same whatever the number of rows.
    manifest, _ = TinyDecoder(kinds={"": Kind(32)}).write(package)
    scales = np.full((SHAPE.layers, 2, SHAPE.kv_heads, SHAPE.head_dim), 8 / 127, np.float32)
    write_kv_scales(package / SCALES, SHAPE, scales)
    return Decoder(package, manifest, slots=slots, tokens=CONTEXT, threads=1, kv_dtype=kv_dtype)


@pytest.mark.parametrize("kv_dtype", KvDtype)
def test_a_row_in_company_gives_the_logits_of_the_row_alone(
    tmp_path: Path, kv_dtype: KvDtype
) -> None:
    decoder = with_scales(tmp_path, kv_dtype, slots=3)
    alone = decoder.forward([Row(slot=0, past=0, tokens=PROMPT, num_logits=2)]).copy()
    decoder.arena.release(0)

    decoder.forward([Row(slot=2, past=0, tokens=PROMPT[:9], num_logits=0),
                     Row(slot=0, past=0, tokens=PROMPT[::-1], num_logits=1)])  # fmt: skip
    together = decoder.forward(
        [
            Row(slot=0, past=11, tokens=[1], num_logits=1),
            Row(slot=2, past=9, tokens=PROMPT[9:], num_logits=2),
        ]
    )

    spread = np.abs(alone).max()
    assert (
        np.abs(together[1:] - alone).max() < (1e-3 if kv_dtype is KvDtype.FP16 else 1e-4) * spread
    )


@pytest.mark.parametrize("kv_dtype", KvDtype)
def test_a_copied_beginning_gives_the_logits_of_a_computed_one(
    tmp_path: Path, kv_dtype: KvDtype
) -> None:
    decoder = with_scales(tmp_path, kv_dtype, slots=4)
    decoder.forward([Row(slot=1, past=0, tokens=PROMPT, num_logits=0)])
    rest = [9, 8]
    there = decoder.forward([Row(slot=1, past=7, tokens=rest, num_logits=2)]).copy()

    decoder.arena.copy(1, 3, start=0, stop=7)
    here = decoder.forward([Row(slot=3, past=7, tokens=rest, num_logits=2)])

    assert np.array_equal(here, there)


def test_bindings_do_not_pile_up(tmp_path: Path) -> None:
    decoder = with_scales(tmp_path, KvDtype.FP32, slots=16)
    for first in range(16):
        for last in range(first + 1, 16):
            rows = [Row(slot=slot, past=0, tokens=[1], num_logits=0) for slot in (first, last)]
            decoder.forward(rows)

    assert len(decoder._bindings) == 64


@pytest.mark.parametrize("kv_dtype", [KvDtype.FP16, KvDtype.INT8])
def test_a_smaller_cache_is_near_the_whole_one(tmp_path: Path, kv_dtype: KvDtype) -> None:
    rows = [Row(slot=0, past=0, tokens=PROMPT, num_logits=len(PROMPT))]
    exact = with_scales(tmp_path, KvDtype.FP32, slots=1).forward(rows)

    near = with_scales(tmp_path, kv_dtype, slots=1).forward(rows)

    assert 0 < np.abs(near - exact).max() < 0.2 * np.abs(exact).max()


def test_more_logits_than_slots_may_be_asked_for(tmp_path: Path) -> None:
    decoder = with_scales(tmp_path, KvDtype.FP32, slots=1)

    assert decoder.forward([Row(slot=0, past=0, tokens=[1], num_logits=1)]).shape == (1, 160)
    assert decoder.forward([Row(slot=0, past=1, tokens=PROMPT, num_logits=9)]).shape == (9, 160)


def test_a_package_without_a_graph_for_the_cache_says_what_there_is(tmp_path: Path) -> None:
    manifest, _ = TinyDecoder().write(tmp_path)
    old = msgspec.structs.replace(manifest, graphs={"fp32": manifest.graphs["fp32"]})

    with pytest.raises(ModelError, match=r"no graph .* fp16 \(there is fp32\); import it again"):
        Decoder(tmp_path, old, slots=1, tokens=64, threads=1, kv_dtype=KvDtype.FP16)


def test_a_damaged_graph_is_a_model_error(tmp_path: Path) -> None:
    manifest, _ = TinyDecoder().write(tmp_path)
    (tmp_path / manifest.graphs["fp32"]).write_bytes(b"\xff" * 100)

    with pytest.raises(ModelError, match=r"decoder\.fp32\.onnx"):
        Decoder(tmp_path, manifest, slots=1, tokens=64, threads=1)
