"""A package of a few bytes that nothing can compute with; for what only stores and checks it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from edge_agent.modelstore.machine_key import MachineKey
from edge_agent.modelstore.manifest import (
    FORMAT,
    File,
    Manifest,
    Quantization,
    Rope,
    Shape,
)
from edge_agent.modelstore.rewriting import rewriting

if TYPE_CHECKING:
    from pathlib import Path

RAW = bytes(range(256)) * 37
BLOBS = (b"first" * 1000, b"second" * 2000)
GRAPH = "decoder.fp32.onnx"
HERE = MachineKey(onnxruntime="1.2.3", machine="x86_64", cpu="0123456789abcdef")


def write_package(package: Path) -> Manifest:
    """Write the new directory `package` with raw weights and one graph."""
    package.mkdir(parents=True)
    contents = {"weights.bin": RAW, GRAPH: b"plain"}
    for name, content in contents.items():
        (package / name).write_bytes(content)
    manifest = Manifest(
        format=FORMAT,
        name=package.name,
        family="test",
        context=64,
        shape=Shape(
            layers=1, hidden=1, heads=1, kv_heads=1, head_dim=1, intermediate=1, vocab=1,
            norm_eps=1e-5,
        ),
        rope=Rope(theta=1.0, dims=1, original_context=64),
        quantization=Quantization(
            bits=4, block=32, head_bits=8, head_block=32, activations="exact"
        ),
        graphs={"fp32": GRAPH},
        stop_token_ids=(0,),
        licence="none",
        source="nowhere",
        created=0,
        files={
            name: File(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in contents.items()
        },
    )  # fmt: skip
    (package / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return manifest


def prepare(package: Path, manifest: Manifest, key: MachineKey = HERE) -> tuple[int, ...]:
    """Give `package` a tail of BLOBS, made under `key`; return where they lie."""
    with rewriting(package, manifest) as tail:
        source = tail.scratch / "blob"
        source.write_bytes(b"skipped" + b"".join(BLOBS))
        places, offset = [], len(b"skipped")
        with source.open("rb") as file:
            for blob in BLOBS:
                places.append(tail.append(file.fileno(), offset, len(blob)))
                offset += len(blob)
        tail.finish({GRAPH: b"prepared"}, key, lambda _: None)
    return tuple(places)
