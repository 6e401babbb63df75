"""The door for Hugging Face directories, whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.doors import open_model
from edge_agent.importers.hf import open_hf
from edge_agent.importers.source import check
from tests.importers import tiny_hf
from tests.importers.tiny_hf import CONTEXT, LAYERS, LONG_FACTORS, SHORT_FACTORS, VOCAB, TinyHf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "model",
    [
        TinyHf(),
        TinyHf(spelling="new", shards=2, dtype="F16"),
        TinyHf(is_tied=False, dtype="F32"),
        TinyHf(family="llama"),
        TinyHf(family="llama", spelling="new", is_tied=False),
    ],
)
def test_a_directory_gives_a_whole_model(tmp_path: Path, model: TinyHf) -> None:
    model.write(tmp_path)

    with open_model(tmp_path) as found:
        check(found)
        assert (found.shape.layers, found.shape.vocab, found.context) == (LAYERS, VOCAB, CONTEXT)
        assert {product.name for product in found.products} >= {"embedding", "layers.1.down"}
        assert ("head" in {product.name for product in found.products}) is not model.is_tied
        assert json.loads(found.tokenizer) == tiny_hf.tokenizer()
        assert found.chat_template.endswith(tiny_hf.TEMPLATE)
        assert {300, 302} <= set(found.stop_token_ids)
        if model.family == "phi3":
            assert found.rope.short_factors == tuple(SHORT_FACTORS)
            assert found.rope.long_factors == tuple(LONG_FACTORS)


def test_one_open_model_reads_rows_in_any_order(tmp_path: Path) -> None:
    stored = TinyHf(shards=3).write(tmp_path)

    with open_hf(tmp_path) as model:
        (part,) = next(p for p in model.products if p.name == "layers.1.gate_up").parts
        for start, stop in ((500, 512), (0, 1), (100, 300)):
            expected = stored[part.name][start:stop]
            assert (part.floats(start, stop) == expected).all()


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("config.json", "config.json: "),
        ("tokenizer.json", "tokenizer.json: "),
        ("model.safetensors", "neither model.safetensors nor"),
        ("tokenizer_config.json", "no chat template"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, file: str, problem: str) -> None:
    TinyHf().write(tmp_path)
    (tmp_path / file).unlink()

    with pytest.raises(ModelError) as caught, open_hf(tmp_path):
        pass
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [{"vocab_size": 300}, {"architectures": ["GemmaForCausalLM"]}, {"hidden_size": 1 << 30}],
)
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    TinyHf(config=config).write(tmp_path)

    with pytest.raises(ModelError), open_hf(tmp_path):
        pass
