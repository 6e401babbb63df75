"""Packages of onnxruntime-genai's own builder: integers come through as they are, answers too.

How the packages beside this file and `references.json` were made is said in `make_packages.py`.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.importers import compiler, package
from edge_agent.importers.genai import open_genai
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.manifest import read_manifest
from tests.importers import tiny_hf
from tests.real.genai.make_packages import NEW_TOKENS, RECIPES, REFERENCES, build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
STORED = json.loads((HERE / REFERENCES).read_text())
ROUNDED = "phi3-int4"
# Our activations are sums of two terms of 8 bits, with 4-bit weights in short steps; theirs floats.
LIMITS = dict.fromkeys(
    ("llama-int8", "phi3-k-quant", "phi3-asymmetric", "phi3-asymmetric-long"), 1e-3
)
BUILDER = "EDGE_TEST_GENAI_BUILDER"
LABEL = package.Label(name="built", family="test", licence="none", origin="onnxruntime-genai")
# What the builder calls the parts of our products, and their tensors: what no door may rely on.
STEMS = {
    "qkv": ["attn.qkv_proj"],
    "o": ["attn.o_proj"],
    "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}
KINDS = {"values": "weight_Q", "scales": "weight_scale", "zero_points": "weight_zp"}


@pytest.fixture(params=sorted(RECIPES))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of one of the packages."""
    return str(request.param)


@pytest.fixture
def built(name: str, tmp_path: Path) -> Path:
    """Return the package of that name, unpacked."""
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        archive.extractall(tmp_path / "built")
    return tmp_path / "built"


def test_integers_and_scales_come_through_to_the_last_bit(name: str, built: Path) -> None:
    ours, theirs = weights(built, Precision()), tensors(built)

    compared = 0
    for product, stems in products(is_tied=name.startswith("phi3")):
        for kind, infix in KINDS.items():  # fp32 has none of them
            found = [array for stem in stems for array in matching(theirs, stem, infix)]
            if found:
                array = ours[f"{product}.{kind}"]
                np.testing.assert_array_equal(array, np.concatenate(found), product, strict=True)
            compared += len(found)

    zero_points = name in {"phi3-k-quant", "phi3-asymmetric"}
    per_weight = 0 if name == "phi3-fp32" else 2 + zero_points
    assert compared == per_weight * (5 * tiny_hf.LAYERS + 1)


def test_floats_come_through_to_the_last_bit(tmp_path: Path) -> None:
    built = unpack("phi3-fp32", tmp_path)
    ours, theirs = weights(built, asked("phi3-fp32")), tensors(built)

    for product, stems in products(is_tied=True):
        expected = np.concatenate([theirs[f"{stem}.MatMul.weight"].T for stem in stems])
        np.testing.assert_array_equal(ours[f"{product}.floats"], expected, product)


def test_the_packages_hold_the_checkpoint_that_other_doors_are_given(tmp_path: Path) -> None:
    checkpoint = tiny_hf.random_weights("phi3", tiny_hf.TinyHf().seed)

    for name in ("phi3-int4", "phi3-fp32"):
        with open_genai(unpack(name, tmp_path)) as model:
            layer = {product.name: product for product in model.products}
            for product, stem in (("qkv", "self_attn.qkv_proj"), ("gate_up", "mlp.gate_up_proj")):
                parts = layer[f"layers.1.{product}"].parts
                floats = np.concatenate([part.floats(0, part.rows) for part in parts])
                expected = checkpoint[f"model.layers.1.{stem}.weight"]
                # If not, `make_packages.py` must be run again.
                np.testing.assert_allclose(floats, expected, rtol=1e-6)


def test_a_float_embedding_beside_its_own_head_is_left_out(tmp_path: Path) -> None:
    built = unpack("phi3-untied", tmp_path)
    assert "model.embed_tokens.weight" in tensors(built)

    with open_genai(built) as model:
        assert model.products[0].parts[0].name.startswith("lm_head.")
        assert "head" not in {product.name for product in model.products}


def test_rotation_is_that_of_the_checkpoint(name: str, built: Path) -> None:
    with open_genai(built) as model:
        rope = model.rope

    if name.startswith("llama"):
        assert (rope.theta, rope.dims, rope.short_factors) == (tiny_hf.THETA, tiny_hf.HEAD_DIM, ())
        return
    assert (rope.theta, rope.dims) == (tiny_hf.THETA, 2 * tiny_hf.PAIRS)
    assert rope.original_context == tiny_hf.ORIGINAL_CONTEXT
    np.testing.assert_allclose(rope.short_factors, tiny_hf.SHORT_FACTORS, rtol=2e-7)
    np.testing.assert_allclose(rope.long_factors, tiny_hf.LONG_FACTORS, rtol=2e-7)


def test_the_configuration_of_the_checkpoint_says_the_same_as_the_tables(tmp_path: Path) -> None:
    built = unpack("phi3-int4", tmp_path)
    with open_genai(built) as model:
        measured = model.rope
    write_configuration(RECIPES["phi3-int4"].checkpoint, built)

    with open_genai(built) as model:
        assert model.rope.long_factors == tuple(tiny_hf.LONG_FACTORS)
        assert model.rope.attention_factor == measured.attention_factor
        assert model.stop_token_ids == (300, 301, 302, 303, 304)


@pytest.mark.parametrize("number", [0, 1], ids=["short", "long"])
def test_answers_are_those_of_onnxruntime_genai(
    name: str, built: Path, tmp_path: Path, number: int
) -> None:
    reference = STORED[name][number]
    if name == "phi3-untied":  # the float embedding that the reference was computed with is kept
        write_configuration(RECIPES[name].checkpoint, built, is_tied=False)

    tokens, logits = answer(built, tmp_path / "package", asked(name), reference["prompt"])

    assert tokens == reference["tokens"]
    for ours, theirs in ((logits[0], reference["first"]), (logits[-1], reference["last"])):
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < LIMITS.get(name, 1e-4), f"logits differ by {error:.2g}"


@pytest.mark.long
def test_what_the_builder_writes_today_is_what_is_stored(name: str, built: Path) -> None:
    python = os.environ.get(BUILDER)
    if not python:
        pytest.skip(f"{BUILDER} names no Python with onnxruntime-genai, onnx_ir and torch")
    again = built.with_name("again")
    build(RECIPES[name], again, python)

    stored, fresh = weights(built, asked(name)), weights(again, asked(name))

    assert stored.keys() == fresh.keys()
    for key, array in stored.items():
        np.testing.assert_array_equal(fresh[key], array, key)


def unpack(name: str, directory: Path) -> Path:
    """Unpack the stored package `name` into `directory`; return where it is."""
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        archive.extractall(directory / name)
    return directory / name


def write_configuration(checkpoint: tiny_hf.TinyHf, built: Path, **changes: Any) -> None:
    """Put the `config.json` of `checkpoint` into the package `built`, as Microsoft does."""
    source = built.with_name("checkpoint")
    source.mkdir()
    replace(checkpoint, **changes).write(source)
    (source / "config.json").rename(built / "config.json")


def asked(name: str) -> Precision:
    """Return how the package of that name is imported to compute what it computed."""
    if name in {"phi3-fp32", "phi3-untied"}:
        return Precision(bits=32)
    # The builder's default rounds activations to 8 bits, as we do when asked.
    return Precision(activations="int8" if name == ROUNDED else "exact")


def products(*, is_tied: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of our products and what the builder calls their parts."""
    for layer in range(tiny_hf.LAYERS):
        for product, stems in STEMS.items():
            yield f"layers.{layer}.{product}", [f"model.layers.{layer}.{stem}" for stem in stems]
    yield "embedding" if is_tied else "head", ["lm_head"]


def tensors(built: Path) -> dict[str, NDArray[Any]]:
    """Return all initializers of a package by name, as onnx itself reads them."""
    model = ModelProto.FromString((built / "model.onnx").read_bytes())
    for tensor in model.graph.initializer:
        load_external_data_for_tensor(tensor, str(built))
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def matching(theirs: dict[str, NDArray[Any]], stem: str, infix: str) -> list[NDArray[Any]]:
    """Return the tensors of the part `stem` that the builder calls something like `infix`."""
    return [array for key, array in theirs.items() if key.startswith(f"{stem}.MatMul.{infix}")]


def weights(built: Path, precision: Precision) -> dict[str, NDArray[Any]]:
    """Import the weights of a package; return the arrays of the weights file by name."""
    path = built.with_name(f"{built.name}.bin")
    with open_genai(built) as model:
        regions = compiler.write_weights(model, precision, path)
    return {
        key: np.memmap(path, region.dtype, "r", region.offset, region.shape)
        for key, region in regions.items()
    }


def answer(
    built: Path, imported: Path, precision: Precision, prompt: list[int]
) -> tuple[list[int], list[NDArray[np.float32]]]:
    """Import a package; return the tokens that it answers greedily, and the logits of each."""
    with open_genai(built) as model:
        package.write(model, LABEL, precision, imported)
    manifest = read_manifest(imported)
    length = len(prompt) + NEW_TOKENS
    decoder = Decoder(imported, manifest, slots=1, tokens=manifest.context, threads=1)
    rope = decoder.rope
    offset = rope.long_offset if manifest.rope.long_factors and length > rope.short_limit else 0
    tokens: list[int] = []
    logits: list[NDArray[np.float32]] = []
    past, step = 0, prompt
    while len(tokens) < NEW_TOKENS:
        row = Row(slot=0, past=past, tokens=step, num_logits=1, position_offset=offset)
        logits.append(decoder.forward([row])[0].copy())
        past += len(step)
        step = [int(logits[-1].argmax())]
        tokens += step
    return tokens, logits
