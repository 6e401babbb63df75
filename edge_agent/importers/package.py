"""Compiles an open model into a package directory, slab by slab; it is never in memory whole.

Writes into a directory of its own and brings every file to the disk; publishing is not its work.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import tokenizers

from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.errors import ModelError
from edge_agent.importers import compiler, graph, weights
from edge_agent.importers.calibration import ROOM_OVER_SHORT_TEXT, TEXT, NoPlace, scales_of
from edge_agent.importers.precision import FLOAT_BITS, TOKEN_PRODUCTS, activations, storage
from edge_agent.importers.source import check
from edge_agent.importers.text_pass import text_pass
from edge_agent.messages import Sampling
from edge_agent.modelstore import manifest
from edge_agent.modelstore.scales import SCALES
from edge_agent.modelstore.store import sha256, sync_directory
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.source import Blocks, Model
    from edge_agent.importers.text_pass import TextPass
    from edge_agent.modelstore.card import Precision

CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER = "tokenizer.json"
_WITHOUT_TEXT = (
    "{}; so weights that this leaves unmeasured are rounded as if all mattered alike, and there "
    "are no scales for an int8 KV cache"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a package is called, and what its model's own files do not say."""

    name: str
    family: str
    licence: str
    origin: str
    """Where the weights are from, for people."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer, besides those the model names."""
    sampling: Sampling = field(default_factory=Sampling)
    """Goes before what the model recommends."""


def write(
    model: Model,
    label: Label,
    asked: Precision,
    package: Path,
    *,
    text: Path | None = TEXT,
    kv_sizes: F32 | None = None,
) -> str | None:
    """Write the package of `model` into the new directory `package`.

    A `text` is carried through the model: what matters more for it is rounded with more care, and
    the scales of an int8 KV cache are made of the sizes that its keys and values have. Without one
    all weights matter alike, and scales are there only if `kv_sizes` tells those sizes, float32
    [layers, 2, kv_heads, head_dim].

    Returns:
        What there is to say where the model could not take the text: the package is complete, as
        without one, but for layers before the numbers grew too large.

    Raises:
        ModelError: a weight or a stop token is not what this version reads, or the file of the text
            is none or too short.
        OSError: disk full or the like.
    """
    stop_token_ids = _stop_token_ids(model, label.stop_tokens)
    check(model)
    quantization = _quantization(model, asked)
    passing, problem = _begun(model, text)
    package.mkdir()
    _write(package / TOKENIZER, model.tokenizer)
    _write(package / CHAT_TEMPLATE, model.chat_template.encode())
    regions = compiler.write_weights(model, asked, package / weights.FILE_NAME, passing)
    if passing:
        kv_sizes, problem = (None if passing.problem else passing.kv_sizes), passing.problem
    if kv_sizes is not None:
        scales = scales_of(kv_sizes, room=ROOM_OVER_SHORT_TEXT)
        write_kv_scales(package / SCALES, model.shape, scales)
    graphs = _write_graphs(package, model, quantization, regions)
    facts = manifest.Manifest(
        format=manifest.FORMAT,
        name=label.name,
        family=label.family,
        context=model.context,
        shape=model.shape,
        rope=model.rope,
        quantization=quantization,
        graphs=graphs,
        stop_token_ids=stop_token_ids,
        longest_token_bytes=Tokenizer(model.tokenizer).longest_token_bytes,
        sampling=_merged(label.sampling, model.sampling),
        licence=label.licence,
        source=label.origin,
        created=int(time.time()),
        files={path.name: _fingerprint(path) for path in sorted(package.iterdir())},
    )
    manifest.write_manifest(package, facts)
    sync_directory(package)
    return None if problem is None else _WITHOUT_TEXT.format(problem)


def _begun(model: Model, text: Path | None) -> tuple[TextPass | None, str | None]:
    """Return the pass of `text` through `model`, or why there is none if there should be one."""
    try:
        return (text_pass(model, text) if text else None), None
    except NoPlace as exc:
        return None, str(exc)


def _stop_token_ids(model: Model, stop_tokens: tuple[str, ...]) -> tuple[int, ...]:
    tokenizer = tokenizers.Tokenizer.from_str(model.tokenizer.decode())
    found = set(model.stop_token_ids)
    for token in stop_tokens:
        number = tokenizer.token_to_id(token)
        if number is None:
            msg = f"stop token {token!r} is not in the vocabulary"
            raise ModelError(msg)
        found.add(number)
    if not found or not 0 <= min(found) <= max(found) < model.shape.vocab:
        msg = f"stop tokens {sorted(found)}: none, or not of {model.shape.vocab} tokens"
        raise ModelError(msg)
    return tuple(sorted(found))


def _quantization(model: Model, asked: Precision) -> manifest.Quantization:
    """Sum up how the weights are stored: what most of them have."""
    kinds = {product.name: storage(product, asked).blocks for product in model.products}
    head = kinds["head"] if "head" in kinds else kinds["embedding"]
    linears: Counter[Blocks | None] = Counter()
    for product in model.products:
        if product.name not in TOKEN_PRODUCTS:
            linears[kinds[product.name]] += product.rows * product.columns
    bits, block = _bits_and_block(linears.most_common(1)[0][0])
    head_bits, head_block = _bits_and_block(head)
    return msgspec.convert(
        {
            "bits": bits,
            "block": block,
            "head_bits": head_bits,
            "head_block": head_block,
            "activations": activations(model, asked),
        },
        manifest.Quantization,
    )


def _bits_and_block(blocks: Blocks | None) -> tuple[int, int]:
    return (FLOAT_BITS, 0) if blocks is None else (blocks.bits, blocks.block)


def _write_graphs(
    package: Path,
    model: Model,
    quantization: manifest.Quantization,
    regions: Mapping[str, weights.Region],
) -> dict[str, str]:
    names = {}
    for kv_dtype in graph.KvDtype:
        plan = graph.Plan(
            shape=model.shape,
            rope=model.rope,
            activations=quantization.activations,
            kv_dtype=kv_dtype,
        )
        names[str(kv_dtype)] = f"decoder.{kv_dtype}.onnx"
        encoded = graph.decoder(plan, regions).SerializeToString(deterministic=True)
        _write(package / names[str(kv_dtype)], encoded)
    return names


def _merged(first: Sampling, second: Sampling) -> Sampling:
    """Return what `first` says, and what `second` says where that is silent."""
    said = {
        name: value
        for sampling in (second, first)
        for name, value in msgspec.structs.asdict(sampling).items()
        if value is not None
    }
    return Sampling(**said)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> manifest.File:
    return manifest.File(bytes=path.stat().st_size, sha256=sha256(path, lambda _: None))
