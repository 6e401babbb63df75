"""Prepared weights of tiny decoders of every kind: used, and equal to the last bit."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest

from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.errors import ModelError
from edge_agent.importers.branches import all_nodes
from edge_agent.importers.prepack import prepack
from edge_agent.modelstore import disk
from edge_agent.modelstore.manifest import File, Manifest
from edge_agent.modelstore.prepared import fault, read_prepared
from edge_agent.modelstore.progress import Progress
from tests.importers.tiny_decoder import CONTEXT, Kind, TinyDecoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = np.arange(3, 40)
DECODERS = {
    "int4": TinyDecoder(),
    "int4, int8 activations": TinyDecoder(activations="int8"),
    "int4 and int8 head": TinyDecoder(kinds={"embedding": Kind(8), "": Kind(4)}),
    "own head": TinyDecoder(has_head=True),
    "block 64": TinyDecoder(kinds={"": Kind(4, block=64)}),
    "offsets": TinyDecoder(kinds={"embedding": Kind(8), "": Kind(4, has_offsets=True)}),
    "zero points": TinyDecoder(kinds={"": Kind(4, has_zero_points=True)}),
    "floats": TinyDecoder(kinds={"": Kind(32)}),
}


def written(package: Path, tiny: TinyDecoder) -> Manifest:
    """Write `tiny`, and a manifest that knows its files."""
    manifest, _ = tiny.write(package)
    contents = {path.name: path.read_bytes() for path in package.iterdir()}
    return msgspec.structs.replace(
        manifest,
        files={
            name: File(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in contents.items()
        },
    )


def quiet() -> Progress:
    return Progress(io.StringIO())


def logits(
    package: Path, manifest: Manifest, kv_dtype: KvDtype = KvDtype.FP32, *, num: int = len(TOKENS)
) -> NDArray[np.float32]:
    """Return the logits of the first `num` TOKENS."""
    decoder = Decoder(package, manifest, slots=1, tokens=CONTEXT, threads=1, kv_dtype=kv_dtype)
    tokens = TOKENS[:num].tolist()
    row = Row(slot=0, past=0, tokens=tokens, num_logits=len(tokens))
    return decoder.forward([row]).copy()


@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_the_same_to_the_last_bit(tmp_path: Path, name: str) -> None:
    manifest = written(tmp_path, DECODERS[name])
    plain = {kv: logits(tmp_path, manifest, kv) for kv in (KvDtype.FP32, KvDtype.FP16)}

    prepack(tmp_path, manifest, threads=1, progress=quiet())

    assert fault(tmp_path, manifest) is None
    for kv, expected in plain.items():
        np.testing.assert_array_equal(logits(tmp_path, manifest, kv), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_a_flipped_bit_in_any_packed_weight_is_found_and_all_are_given_up(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Found means also: it is compared, so its hash was found, so it would be used.
    manifest = written(tmp_path, DECODERS[name])
    plain = logits(tmp_path, manifest)
    prepack(tmp_path, manifest, threads=1, progress=quiet())
    weights, facts = tmp_path / "weights.bin", tmp_path / "prepared.json"
    content, vouched = weights.read_bytes(), facts.read_bytes()

    pieces = packed_pieces(tmp_path / "decoder.fp32.prepared.onnx")
    # Four products in each of two layers, and the head.
    assert len(pieces) >= 9
    for offset, length in pieces:
        damaged = bytearray(content)
        damaged[offset + length // 3] ^= 1
        weights.write_bytes(damaged)
        facts.write_bytes(vouched)
        caplog.clear()

        np.testing.assert_array_equal(logits(tmp_path, manifest), plain)
        assert "prepared weights are refused and given up" in caplog.text
        assert fault(tmp_path, manifest) == "not prepared"


def packed_pieces(graph: Path) -> list[tuple[int, int]]:
    entries = [
        entry.value.split("|")[1].split(";")
        for tensor in onnx.load(graph, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key.startswith("prepacked_")
    ]
    return [(int(offset), int(length)) for offset, length, _ in entries]


def test_graphs_share_what_they_multiply_alike(tmp_path: Path) -> None:
    manifest = written(tmp_path, DECODERS["int4"])
    prepack(tmp_path, manifest, threads=1, progress=quiet())

    pieces = {
        tuple(packed_pieces(tmp_path / f"decoder.{kv}.prepared.onnx")) for kv in manifest.graphs
    }

    assert len(pieces) == 1


def test_a_weight_that_a_graph_multiplies_in_two_ways_is_packed_for_both(tmp_path: Path) -> None:
    manifest = written(tmp_path, DECODERS["int4"])
    few_and_many = (5, len(TOKENS))
    plain = [logits(tmp_path, manifest, num=num) for num in few_and_many]

    prepack(tmp_path, manifest, threads=1, progress=quiet())

    model = onnx.load(tmp_path / "decoder.fp32.prepared.onnx", load_external_data=False)
    weight = next(t for t in model.graph.initializer if t.name == "layers.0.qkv.values")
    packed = [e.value for e in weight.external_data if e.key.startswith("prepacked_")]
    assert len(packed) == len(set(packed)) == len(few_and_many)
    for num, expected in zip(few_and_many, plain, strict=True):
        np.testing.assert_array_equal(logits(tmp_path, manifest, num=num), expected)


def test_preparing_again_makes_the_same_bytes(tmp_path: Path) -> None:
    manifest = written(tmp_path, DECODERS["int4 and int8 head"])
    prepack(tmp_path, manifest, threads=1, progress=quiet())
    first = read_prepared(tmp_path)

    prepack(tmp_path, manifest, threads=2, progress=quiet())

    assert first is not None
    assert read_prepared(tmp_path) == first


def test_too_small_a_disk_is_told_before_anything_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = written(tmp_path, DECODERS["int4"])
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    monkeypatch.setattr(disk, "free_bytes", lambda _: disk.SPARE_BYTES)

    with pytest.raises(ModelError, match=r"preparing tiny needs \d+ MB of free disk, .* has 34 MB"):
        prepack(tmp_path, manifest, threads=1, progress=quiet())

    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before


def test_a_product_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    manifest = written(tmp_path, DECODERS["int4"])
    path = tmp_path / manifest.graphs["fp32"]
    model = onnx.load(path, load_external_data=False)
    product = next(node for node in all_nodes(model.graph) if "layers.0.qkv.values" in node.input)
    next(a for a in product.attribute if a.name == "bits").i = 5
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ModelError, match=r"layers\.0\.qkv\.values cannot be packed"):
        prepack(tmp_path, manifest, threads=1, progress=quiet())


def test_a_graph_that_is_none_is_named(tmp_path: Path) -> None:
    manifest = written(tmp_path, DECODERS["int4"])
    (tmp_path / manifest.graphs["fp16"]).write_bytes(b"\xff")

    with pytest.raises(ModelError, match=r"decoder\.fp16\.onnx"):
        prepack(tmp_path, manifest, threads=1, progress=quiet())
