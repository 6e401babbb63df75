"""Packs the weights of a package for this machine, one matrix product at a time.

onnxruntime saves packed weights only for a whole model, with the raw ones once more, and holds them
all on the heap meanwhile. So each product is saved as a model of its own, its packed weights are
moved to the tail of the package's `weights.bin`, and copies of the decoder graphs name their places
there. onnxruntime still packs at every load, one weight at a time, and takes what lies in the file
instead where both have one hash. What has no match stays on the heap; what has one and differs in
a byte is refused. So weights packed elsewhere are useless and damaged ones are found: never wrong.
"""

from __future__ import annotations

import os

# As in the decoder: it must stand before the import, or onnxruntime reports home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from edge_agent.engine.decoder import session_options
from edge_agent.engine.heap import fresh_blocks
from edge_agent.errors import ModelError
from edge_agent.importers.branches import all_nodes
from edge_agent.modelstore import disk
from edge_agent.modelstore.machine_key import this_machine
from edge_agent.modelstore.progress import Stage
from edge_agent.modelstore.rewriting import rewriting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edge_agent.modelstore.manifest import Manifest
    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.rewriting import Tail

# The operators whose kernels lay out constant weights anew.
_PACKING_OPS = {"Gemm", "MatMul", "MatMulNBits"}
_GRAPH = "product.onnx"
_DATA = "product.bin"
# Beside what a weight fills: its last page.
_ALIGNMENT_BYTES = 4096
_PREFIX = "prepacked_"  # onnxruntime's own, of the keys that follow location, offset and length


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """One packed weight, as onnxruntime's key names it, in one or more pieces."""

    initializer: str
    key: str
    """Operator and hash of the content."""
    pieces: tuple[tuple[int, int, str], ...]
    """Offset, length and checksum of each."""

    @classmethod
    def parse(cls, initializer: str, entry: str) -> _Blob:
        """Read `key|offset;length;checksum|…`."""
        key, *pieces = entry.split("|")
        fields = (piece.split(";") for piece in pieces)
        return cls(
            initializer=initializer,
            key=key,
            pieces=tuple((int(offset), int(length), check) for offset, length, check in fields),
        )

    @property
    def entry(self) -> str:
        """The text that `parse` reads."""
        return "|".join([self.key, *(";".join(map(str, piece)) for piece in self.pieces)])


def prepack(package: Path, manifest: Manifest, *, threads: int, progress: Progress) -> None:
    """Give `package` prepared weights for this machine; what it had of them is replaced.

    Needs as much memory as the largest product, raw and packed.

    Raises:
        ModelError: the prepared weights in place are in use, the disk is full or read-only, or
            onnxruntime refuses a product.
    """
    graphs = {name: _read(package / name) for name in sorted(set(manifest.graphs.values()))}
    # What several graphs have in common is one key here, so it is packed and stored once.
    products = dict.fromkeys(one for graph in graphs.values() for _, one in _products(graph))
    sizes = {product: _packed_bytes(product) for product in products}
    total_bytes = sum(sizes.values())
    with rewriting(package, manifest) as tail:
        # Behind the tail, the largest product once more: raw and packed, in the scratch directory.
        most_bytes = total_bytes + 2 * max(sizes.values(), default=0)
        disk.require(f"preparing {manifest.name}", most_bytes, package)
        show = progress.stage(Stage.PREPARE, total_bytes)
        packed: dict[bytes, tuple[_Blob, ...]] = {}
        done_bytes = 0
        for product, num_bytes in sizes.items():
            options = session_options(threads, manifest.quantization.activations)
            packed[product] = _pack(product, package, tail, options)
            done_bytes += num_bytes
            show(done_bytes)
        copies = {name: _prepared(graph, packed) for name, graph in graphs.items()}
        tail.finish(copies, this_machine(), lambda _: None)


def _read(path: Path) -> ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as exc:  # protobuf's own class has no type stubs
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc


def _products(model: ModelProto) -> Iterator[tuple[NodeProto, bytes]]:
    """Yield each node with packable weights, and the model that has only that, serialized.

    Names of nodes and activations are left out of it, so that equal products are equal bytes.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in all_nodes(model.graph):
        own = [weights[name] for name in node.input if name in weights]
        if node.op_type in _PACKING_OPS and any(map(_is_external, own)):
            yield node, _bytes(_alone(node, own, model))


def _alone(node: NodeProto, weights: list[TensorProto], model: ModelProto) -> ModelProto:
    names = {tensor.name for tensor in weights}
    activations = [name for name in node.input if name and name not in names]
    places = {name: f"x{i}" for i, name in enumerate(activations)}
    alone = NodeProto()
    alone.CopyFrom(node)
    alone.name = "product"
    alone.input[:] = [places.get(name, name) for name in node.input]
    alone.output[:] = ["y"]
    # Scales, or the weights themselves, have the type of the activations.
    element = next(w.data_type for w in weights if w.data_type != TensorProto.UINT8)
    graph = helper.make_graph(
        [alone],
        "product",
        [helper.make_tensor_value_info(name, element, None) for name in places.values()],
        [helper.make_tensor_value_info("y", element, None)],
        initializer=weights,
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _packed_bytes(product: bytes) -> int:
    """Return about how large the packed weights of `product` will be, rather more than less.

    Kernels store the values and, for each block, its scale and a sum or less; pages are filled up.
    """
    graph = _graph(product)
    sizes = {w.name: int(_field(w, "length")) for w in graph.initializer if _is_external(w)}
    scales = sizes.get(graph.node[0].input[2], 0) if len(graph.node[0].input) > 2 else 0  # noqa: PLR2004  # data, weights, scales
    return sum(sizes.values()) + scales + _ALIGNMENT_BYTES


def _pack(
    product: bytes, package: Path, tail: Tail, options: ort.SessionOptions
) -> tuple[_Blob, ...]:
    """Append the packed weights of `product` to the tail and return where they lie."""
    # The product as it stands: what the decoder's own optimizations make of it is the same kernel.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(tail.scratch / _GRAPH)
    for key, value in {
        "session.model_external_initializers_file_folder_path": str(package),
        "session.save_external_prepacked_constant_initializers": "1",
        "session.optimized_model_external_initializers_file_name": _DATA,
        "session.optimized_model_external_initializers_min_size_in_bytes": "0",
    }.items():
        options.add_session_config_entry(key, value)
    try:
        with fresh_blocks():
            ort.InferenceSession(product, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises classes of its own, without a common base
        msg = f"{package}: {_graph(product).initializer[0].name} cannot be packed: {exc}"
        raise ModelError(msg) from exc
    saved = _read(tail.scratch / _GRAPH).graph.initializer
    blobs = [
        _Blob.parse(tensor.name, entry.value)
        for tensor in saved
        for entry in tensor.external_data
        if entry.key.startswith(_PREFIX)
    ]
    with (tail.scratch / _DATA).open("rb") as data:
        moved = tuple(_moved(blob, data.fileno(), tail) for blob in blobs)
    # At once: what is deleted before the kernel writes it back never costs a write to the disk.
    (tail.scratch / _DATA).unlink()
    return moved


def _moved(blob: _Blob, source: int, tail: Tail) -> _Blob:
    pieces = tuple(
        (tail.append(source, offset, length), length, check)
        for offset, length, check in blob.pieces
    )
    return _Blob(initializer=blob.initializer, key=blob.key, pieces=pieces)


def _prepared(model: ModelProto, packed: Mapping[bytes, tuple[_Blob, ...]]) -> bytes:
    """Return a copy of `model`, serialized, that says where its packed weights are."""
    places: dict[str, dict[str, str]] = {}
    for _, product in _products(model):
        for blob in packed[product]:
            places.setdefault(blob.initializer, {})[blob.key] = blob.entry
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        for i, entry in enumerate(places.get(tensor.name, {}).values()):
            tensor.external_data.add(key=f"{_PREFIX}{i}", value=entry)
    return _bytes(copy)


def _bytes(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _graph(product: bytes) -> GraphProto:
    model = ModelProto()
    model.ParseFromString(product)
    return model.graph


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _field(tensor: TensorProto, key: str) -> str:
    return next(str(entry.value) for entry in tensor.external_data if entry.key == key)
