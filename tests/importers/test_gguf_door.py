"""Whole GGUF files through their door."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.importers.source import check
from edge_agent.modelstore.manifest import Shape
from edge_agent.text import tokenizer as text
from tests.importers.damage import Damage, damages
from tests.importers.tiny_gguf import CONTEXT, LAYERS, SIZES, TEMPLATE, THETA, TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_facts_are_those_of_the_file(tmp_path: Path, architecture: str) -> None:
    TinyModel(architecture=architecture).write(tmp_path / "tiny.gguf")
    sizes = SIZES[architecture]

    with open_gguf(tmp_path / "tiny.gguf") as model:
        check(model)
        assert model.shape == Shape(
            layers=LAYERS,
            hidden=sizes.hidden,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            intermediate=sizes.intermediate,
            vocab=len(vocabulary()),
            norm_eps=float(np.float32(1e-5)),
        )
        assert (model.context, model.chat_template) == (CONTEXT, TEMPLATE)
        assert model.stop_token_ids == (0, 2)
        assert (model.rope.theta, model.rope.dims) == (THETA, sizes.rotated)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel().write(path)
    path.write_bytes(path.read_bytes().replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma"))

    with (
        pytest.raises(ModelError, match=r"architecture 'gemma' .* it reads llama, phi3"),
        open_gguf(path),
    ):
        pass


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> memoryview:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    TinyModel().write(path)
    return memoryview(path.read_bytes())  # which hypothesis can name without printing all of it


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.gguf"


@settings(max_examples=300, deadline=None)
@given(damages=st.lists(damages(), min_size=1, max_size=2))
def test_a_damaged_model_is_opened_or_refused(
    scratch: Path, tiny_bytes: memoryview, damages: list[Damage]
) -> None:
    data = bytes(tiny_bytes)
    for damage in damages:
        data = damage(data)
    scratch.write_bytes(data)

    with contextlib.suppress(ModelError), open_gguf(scratch) as model:
        check(model)
        text.Tokenizer(model.tokenizer)
        for product in model.products:
            for part in product.parts:
                assert np.isfinite(part.floats(0, part.rows)).all()
