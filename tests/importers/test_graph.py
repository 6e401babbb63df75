"""The decoder graph against the same model in plain numpy, for every kind of weight and cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest

from edge_agent.engine.batch import Row
from edge_agent.errors import ModelError
from edge_agent.importers.graph import KvDtype
from tests.importers import float_model
from tests.importers.tiny_decoder import ROPE, SHAPE, Kind, Tiny, TinyDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PROMPT = [5, 150, 17, 99, 3, 80, 42, 42, 7, 101, 64]

# More tokens than go in terms where weights have 4 bits.
MANY = PROMPT * 3


def all_logits(
    tiny: Tiny, tokens: Sequence[int], *, slot: int = 0, past: int = 0, is_long: bool = False
) -> NDArray[np.float32]:
    """Feed `tokens` to one slot; return the logits of each."""
    offset = tiny.decoder.rope.long_offset if is_long else 0
    row = Row(
        slot=slot, past=past, tokens=tokens, num_logits=len(tokens), position_offset=offset
    )  # fmt: skip
    return tiny.decoder.forward([row]).copy()


def expected(tiny: Tiny, tokens: Sequence[int], *, is_long: bool = False) -> NDArray[np.float32]:
    return float_model.logits(tiny.weights, tiny.shape, tiny.rope, tokens, is_long=is_long)


def relative_error(actual: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


# Whose products depend on nothing but their own row.
FLOATS = {"": Kind(32)}
KINDS = {
    "float": FLOATS,
    "4-bit": {"": Kind(4)},
    "4-bit blocks of 128": {"": Kind(4, 128)},
    "4-bit with offsets": {"embedding": Kind(8), "": Kind(4, has_offsets=True)},
    "4-bit with zero points": {"": Kind(4, 64, has_zero_points=True)},
    "8-bit": {"": Kind(8)},
    "8-bit with zero points": {"": Kind(8, 16, has_zero_points=True)},
    "8-bit with offsets": {"embedding": Kind(8), "": Kind(8, has_offsets=True)},
    "mixed": {
        "embedding": Kind(8, 128),
        "0.qkv": Kind(4, 16),
        "1.qkv": Kind(8, 64),
        "o": Kind(32),
        "gate_up": Kind(4, 32, has_zero_points=True),
        "down": Kind(8, 256),
    },
}


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_exact_activations_give_the_logits_of_the_float_model(
    tmp_path: Path, kinds: dict[str, Kind]
) -> None:
    tiny = TinyDecoder(kinds=kinds).load(tmp_path)

    # One term of int8 activations is off by 0.01 and more.
    assert relative_error(all_logits(tiny, PROMPT), expected(tiny, PROMPT)) < 1e-3
    assert relative_error(all_logits(tiny, MANY), expected(tiny, MANY)) < 1e-3


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_int8_activations_stay_near(tmp_path: Path, kinds: dict[str, Kind]) -> None:
    tiny = TinyDecoder(kinds=kinds, activations="int8").load(tmp_path)

    assert relative_error(all_logits(tiny, PROMPT), expected(tiny, PROMPT)) < 0.1


@pytest.mark.parametrize("embedding", [Kind(32), Kind(4), Kind(8, has_zero_points=True)])
@pytest.mark.parametrize("head", [Kind(32), Kind(4, has_zero_points=True), Kind(8)])
def test_a_head_of_its_own_is_used_whatever_the_embedding_is(
    tmp_path: Path, embedding: Kind, head: Kind
) -> None:
    kinds = {"embedding": embedding, "head": head, "": Kind(8)}
    tiny = TinyDecoder(kinds=kinds, has_head=True).load(tmp_path)

    assert relative_error(all_logits(tiny, PROMPT), expected(tiny, PROMPT)) < 1e-3


def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(tmp_path: Path) -> None:
    tiny = TinyDecoder(kinds=FLOATS).load(tmp_path)

    chunks = [all_logits(tiny, PROMPT[:4]), all_logits(tiny, PROMPT[4:], past=4)]

    assert relative_error(np.concatenate(chunks), expected(tiny, PROMPT)) < 1e-5


@pytest.mark.parametrize("bits", [4, 8])
def test_an_odd_number_of_blocks_has_whole_bytes_of_zero_points(tmp_path: Path, bits: int) -> None:
    shape = msgspec.structs.replace(SHAPE, hidden=96, intermediate=160)
    kinds = {"": Kind(bits, has_zero_points=True)}
    tiny = TinyDecoder(kinds=kinds, shape=shape).load(tmp_path)

    assert relative_error(all_logits(tiny, PROMPT), expected(tiny, PROMPT)) < 1e-3


def test_rows_of_different_lengths_and_modes_share_a_step(tmp_path: Path) -> None:
    tiny = TinyDecoder(kinds=FLOATS).load(tmp_path, slots=4)
    long = tiny.decoder.rope.long_offset
    all_logits(tiny, PROMPT[:6], slot=0)
    all_logits(tiny, PROMPT[:2], slot=2, is_long=True)

    # A decode row, an idle row without a cache, a chunk in long mode and a whole prompt.
    rows = [
        Row(slot=0, past=6, tokens=PROMPT[6:7], num_logits=1),
        Row(slot=2, past=2, tokens=PROMPT[2:8], num_logits=6, position_offset=long),
        Row(slot=3, past=0, tokens=PROMPT, num_logits=11),
    ]
    decode, chunk, whole = np.split(tiny.decoder.forward(rows), [1, 7])

    assert relative_error(decode, expected(tiny, PROMPT)[6:7]) < 1e-5
    assert relative_error(chunk, expected(tiny, PROMPT, is_long=True)[2:8]) < 1e-5
    assert relative_error(whole, expected(tiny, PROMPT)) < 1e-5


def test_both_modes_differ(tmp_path: Path) -> None:
    tiny = TinyDecoder().load(tmp_path)

    assert relative_error(expected(tiny, PROMPT, is_long=True), expected(tiny, PROMPT)) > 0.05


def test_a_smaller_past_rewinds(tmp_path: Path) -> None:
    tiny = TinyDecoder(kinds=FLOATS).load(tmp_path, slots=2)
    all_logits(tiny, PROMPT, slot=1)
    other = [9, 8, 7]

    logits = all_logits(tiny, other, slot=1, past=5)

    assert relative_error(logits, expected(tiny, PROMPT[:5] + other)[5:]) < 1e-5


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_a_half_precision_cache_stays_near(tmp_path: Path, is_long: bool) -> None:
    tiny = TinyDecoder().load(tmp_path, kv_dtype=KvDtype.FP16)

    first = all_logits(tiny, PROMPT[:4], is_long=is_long)
    second = all_logits(tiny, PROMPT[4:], past=4, is_long=is_long)

    logits = np.concatenate([first, second])
    assert relative_error(logits, expected(tiny, PROMPT, is_long=is_long)) < 0.01


def test_the_embedding_and_the_head_are_one_place_in_the_file(tmp_path: Path) -> None:
    manifest, _ = TinyDecoder(kinds={"": Kind(4, 128)}).write(tmp_path)
    model = onnx.load(tmp_path / manifest.graphs["fp32"], load_external_data=False)

    places = {
        tensor.name: [(entry.key, entry.value) for entry in tensor.external_data]
        for tensor in model.graph.initializer
        if tensor.name.startswith("embedding.values")
    }

    assert set(places) == {"embedding.values", "embedding.values.rows"}
    assert places["embedding.values"] == places["embedding.values.rows"]


def test_dimensions_the_kernel_cannot_rotate_are_refused(tmp_path: Path) -> None:
    rope = msgspec.structs.replace(ROPE, dims=24)

    with pytest.raises(ModelError, match=r"rope\.dims: 24 of 64 .* multiples of 16"):
        TinyDecoder(rope=rope).write(tmp_path)
