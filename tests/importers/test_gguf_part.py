"""Rows of tensors as the compiler asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.importers.gguf_part import GgufPart
from edge_agent.importers.source import Blocks
from tests.importers.tiny_gguf import TinyModel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q8_0"])
def test_rows_are_the_same_however_they_are_cut(tmp_path: Path, kind: str) -> None:
    TinyModel(kinds={"": kind}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        query = next(p for p in model.products if p.name == "layers.0.qkv").parts[0]
        whole = query.floats(0, query.rows)
        for step in (1, 5, query.rows):
            starts = range(0, query.rows, step)
            pieces = [query.floats(row, min(row + step, query.rows)) for row in starts]
            np.testing.assert_array_equal(np.concatenate(pieces), whole)
            if query.blocks is not None:
                exact = [query.packed(row, min(row + step, query.rows)) for row in starts]
                np.testing.assert_array_equal(
                    np.concatenate([packed.floats() for packed in exact]), whole
                )


def test_blocks_are_offered_where_nothing_is_lost(tmp_path: Path) -> None:
    kinds = {"token_embd": "Q8_0", "attn_q": "Q4_0", "attn_k": "Q4_1", "": "Q5_0"}
    TinyModel(kinds=kinds).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model:
        found = {
            product.name: [part.blocks for part in product.parts] for product in model.products
        }

    four = Blocks(bits=4, block=32)
    assert found["embedding"] == [Blocks(bits=8, block=32)]
    assert found["layers.0.qkv"] == [four, Blocks(bits=4, block=32, has_offsets=True), None]
    assert found["layers.0.down"] == [None]


def test_infinity_is_refused_with_the_name_of_its_tensor(tmp_path: Path) -> None:
    norm = np.full(64, np.inf, np.float32)
    TinyModel(more={"blk.1.ffn_norm.weight": norm}).write(tmp_path / "tiny.gguf")

    with open_gguf(tmp_path / "tiny.gguf") as model, pytest.raises(ModelError) as caught:
        model.norms["layers.1.ffn_norm"].floats(0, 1)

    assert str(caught.value) == (
        "tiny.gguf: tensor 'blk.1.ffn_norm.weight': F32 weights hold infinity or NaN"
    )


def test_infinite_scales_are_refused_with_the_name_of_their_tensor(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel(kinds={"": "Q8_0"}).write(path)

    with open_gguf(path) as model:
        down = next(p for p in model.products if p.name == "layers.1.down").parts[0]
        assert isinstance(down, GgufPart)
        first = down.tensor.offset
        with path.open("r+b") as file:
            file.seek(first)
            file.write(np.float16(np.inf).tobytes())
        with pytest.raises(ModelError, match=r"'blk\.1\.ffn_down\.weight': Q8_0 scales hold inf"):
            down.packed(0, 1)
