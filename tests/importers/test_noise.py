"""Random models: the shape asked for, the same each time, and tame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.engine.kv_scales import read_kv_scales
from edge_agent.errors import ModelError
from edge_agent.importers.calibrate import calibrate
from edge_agent.importers.noise import NoisePart, main, noise_model, tokenizer, write_package
from edge_agent.importers.source import Blocks
from edge_agent.modelstore.card import Card
from edge_agent.modelstore.manifest import Rope, Shape, read_manifest
from edge_agent.modelstore.sources import FileSource
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape(
    layers=2,
    hidden=128,
    heads=2,
    kv_heads=1,
    head_dim=64,
    intermediate=256,
    vocab=600,
    norm_eps=1e-5,
)
ROPE = Rope(theta=10000.0, dims=64, original_context=512)
CARD = Card(
    name="tiny",
    title="Tiny",
    family="noise",
    licence="none",
    source=FileSource(path="/nowhere"),
    package_bytes=1,
    shape=SHAPE,
    rope=ROPE,
    context=512,
)
INT4, INT8 = Blocks(bits=4, block=32), Blocks(bits=8, block=32)


@pytest.mark.parametrize("blocks", [INT4, INT8, Blocks(bits=4, block=128)])
def test_rows_are_the_same_each_time_and_keep_activations_near_one(blocks: Blocks) -> None:
    part = NoisePart(name="w", rows=512, columns=256, blocks=blocks)
    weights = part.floats(0, 512)
    np.testing.assert_array_equal(weights, part.floats(0, 512))
    outputs = np.random.default_rng(0).normal(size=(64, 256)) @ weights.T
    assert 0.8 < outputs.std() < 1.25


def test_other_names_are_other_noise() -> None:
    one, other = (NoisePart(name=name, rows=2, columns=64, blocks=INT4) for name in "ab")
    assert not np.array_equal(one.packed(0, 2).values, other.packed(0, 2).values)


def test_a_model_has_every_product_and_norm_of_its_shape() -> None:
    model = noise_model(SHAPE, ROPE, context=512, linears=INT4, head=INT8, is_tied=False)
    sizes = {product.name: (product.rows, product.columns) for product in model.products}
    assert sizes["layers.1.qkv"] == (256, 128)
    assert sizes["layers.0.gate_up"] == (512, 128)
    assert sizes["layers.0.down"] == (128, 256)
    assert sizes["head"] == sizes["embedding"] == (600, 128)
    assert len(model.norms) == 5
    assert (model.norms["norm"].floats(0, 1) == 1).all()


def test_a_norm_has_no_blocks() -> None:
    model = noise_model(SHAPE, ROPE, context=512, linears=INT4, head=INT8, is_tied=True)
    with pytest.raises(TypeError, match="no blocks"):
        model.norms["norm"].packed(0, 1)


def test_the_vocabulary_is_full_and_reads_any_text() -> None:
    words = Tokenizer(tokenizer(3000))
    assert words.holes(3000) == []
    text = "Grüße, 世界! \n\t 42"
    assert b"".join(map(words.bytes_of, words.encode(text))).decode() == text


def test_a_package_is_as_the_card_and_the_options_say(tmp_path: Path) -> None:
    write_package(CARD, INT4, INT8, tmp_path / "package", name="tiny-noise")
    manifest = read_manifest(tmp_path / "package")
    assert (manifest.name, manifest.shape) == ("tiny-noise", SHAPE)
    assert (manifest.quantization.bits, manifest.quantization.head_bits) == (4, 8)


def test_its_scales_hold_for_what_it_computes(tmp_path: Path) -> None:
    write_package(CARD, INT4, INT8, tmp_path / "package", name="tiny-noise")
    known = read_kv_scales(tmp_path / "package", SHAPE)

    assert calibrate(tmp_path / "package", threads=1, text="Grüße, 世界! " * 50) > 100

    assert (known >= read_kv_scales(tmp_path / "package", SHAPE)).all()


def test_a_card_without_dimensions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "bare.yaml"
    bare = {
        "name": "bare",
        "title": "Bare",
        "family": "noise",
        "licence": "none",
        "source": {"type": "file", "path": "/nowhere"},
        "package_bytes": 1,
    }
    card.write_text(json.dumps(bare))
    options = ["--name=x", "--bits=4", "--block=32", "--head-bits=4"]
    assert main([str(card), str(tmp_path / "package"), *options]) == 1
    assert "does not tell its dimensions" in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


def test_blocks_that_do_not_divide_rows_are_refused(tmp_path: Path) -> None:
    odd = Blocks(bits=4, block=96)
    with pytest.raises((ModelError, ValueError)):
        write_package(CARD, odd, odd, tmp_path / "package", name="x")
