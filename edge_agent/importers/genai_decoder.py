"""Finds a decoder in the graph of an onnxruntime-genai package: by its operations, not by names.

Names differ by the age of the builder and by the method of quantization, so the way goes backwards
from the logits along the values: head, last norm, and layer by layer to the embedding. What is met
must be exactly the mathematics of our own decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from edge_agent.importers.genai_attention import read_attention
from edge_agent.importers.genai_gate import gate_and_up
from edge_agent.importers.genai_mask import Mask
from edge_agent.importers.genai_weights import (
    PRODUCTS,
    blocks_of_lookup,
    floats,
    product,
    products,
)

if TYPE_CHECKING:
    from edge_agent.importers.genai_attention import Attention
    from edge_agent.importers.genai_graph import Graph, Node
    from edge_agent.importers.genai_mask import RopeTables
    from edge_agent.importers.genai_tensors import Tensor
    from edge_agent.importers.genai_weights import Weight

T = TypeVar("T")

_SKIP_NORM = "SkipSimplifiedLayerNormalization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Weights of a layer; the rows of the parts one under the other."""

    attn_norm: Tensor
    qkv: tuple[Weight, ...]
    o: Weight
    ffn_norm: Tensor
    gate_up: tuple[Weight, ...]
    down: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A decoder as a graph computes it."""

    embedding: Weight
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Weight
    norm_eps: float
    attention: Attention
    rope: RopeTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What `genai_config.json` calls the graph's inputs and output."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    logits: str = "logits"


def read_decoder(graph: Graph, names: Names) -> Decoder:
    """Return the decoder that makes the logits of `graph`.

    Raises:
        ModelError: an operation, an attribute or a stored tensor is not what it must be.
    """
    return _Walk(graph, names).decoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Norm:
    """A norm of the stream that the layers add to."""

    node: Node
    weight: Tensor
    stream: str
    """What it is the norm of."""
    before: str
    added: str
    """What the stream is the sum of; at the first norm nothing is added."""


class _Walk:
    def __init__(self, graph: Graph, names: Names) -> None:
        self._graph = graph
        self._names = names
        self._mask = Mask(graph, names.attention_mask)
        self._attentions: dict[Attention, Node] = {}
        self._eps: dict[float, Node] = {}
        # Layers that share a cache would be no layers of ours.
        self._caches = set(graph.inputs)

    def decoder(self) -> Decoder:
        head, value = product(self._graph, self._names.logits)
        last = above = self._norm(self._behind_pruning(value))
        layers: list[Layer] = []
        while above.added:
            layer, above = self._layer(above)
            layers.append(layer)
        if not layers:
            above.node.refuse("stands where a layer is expected")
        [(attention, node)] = self._one(self._attentions).items()
        [norm_eps] = self._one(self._eps)
        return Decoder(
            embedding=self._embedding(above.stream),
            layers=tuple(reversed(layers)),
            norm=last.weight,
            head=head,
            norm_eps=norm_eps,
            attention=attention,
            rope=self._mask.tables(node, attention.cos, attention.sin),
        )

    def _behind_pruning(self, value: str) -> str:
        """Return what `value` is before all positions but the last were left out."""
        if self._graph.op(value) != "Unsqueeze":
            return value
        widen = self._graph.claim(value, "Unsqueeze")
        pick = self._graph.claim(widen.input(0), "Gather")
        positions = self._graph.integers(pick.input(1), pick)
        axes = self._graph.integers(widen.input(1), widen)
        if positions != [-1] or axes != [1] or pick.integer("axis", 0) != 1:
            pick.refuse("does not pick the last position")
        return self._graph.behind_casts(pick.input(0))

    def _one(self, found: dict[T, Node]) -> dict[T, Node]:
        if len(found) > 1:
            first, other, *_ = found
            found[other].refuse(f"{other}, while another layer has {first}")
        return found

    def _norm(self, value: str) -> _Norm:
        node = self._graph.claim(value, "SimplifiedLayerNormalization", _SKIP_NORM)
        if node.output(0) != value:
            node.refuse(f"its result {value!r} is used as if it were the norm")
        if node.op == _SKIP_NORM:
            node.has_only(inputs=3, attributes=("epsilon",))
            before, added = (self._graph.behind_casts(node.input(index)) for index in (0, 1))
            if self._graph.op(before) in PRODUCTS:  # the order of a sum means nothing
                before, added = added, before
            stream = node.output(3)
        else:
            node.has_only(inputs=2, attributes=("axis", "epsilon", "stash_type"))
            if node.integer("axis", -1) != -1:
                node.refuse("is not over the last axis")
            stream = before = self._graph.behind_casts(node.input(0))
            added = ""
        self._eps.setdefault(node.number("epsilon", 1e-5), node)
        weight = self._graph.weight(node.input(2 if added else 1), node)
        return _Norm(node=node, weight=weight, stream=stream, added=added, before=before)

    def _layer(self, above: _Norm) -> tuple[Layer, _Norm]:
        """Return the layer whose result `above` adds, and the norm that the layer begins with."""
        down, gated = product(self._graph, above.added)
        gate_up, value = gate_and_up(self._graph, gated)
        ffn = self._norm(value)
        self._check_stream(above, ffn)
        o, attended = product(self._graph, ffn.added)
        qkv, value = self._qkv(attended)
        attn = self._norm(value)
        self._check_stream(ffn, attn)
        layer = Layer(
            attn_norm=attn.weight,
            qkv=qkv,
            o=o,
            ffn_norm=ffn.weight,
            gate_up=gate_up,
            down=down,
        )
        return layer, attn

    def _check_stream(self, above: _Norm, below: _Norm) -> None:
        if above.before != below.stream:
            above.node.refuse(f"adds to {above.before!r}, expected {below.stream!r}")

    def _qkv(self, value: str) -> tuple[tuple[Weight, ...], str]:
        """Return the parts of query, key and value of what `value` attends with, and of which."""
        node = self._graph.claim(value, "GroupQueryAttention")
        if node.output(0) != value:
            node.refuse(f"its result {value!r} is used as if it were the first")
        self._attentions.setdefault(read_attention(node), node)
        self._mask.check_lengths(node.input(5), node.input(6))
        for past in (node.input(3), node.input(4)):
            if past not in self._caches:
                node.refuse(f"its cache {past!r} is no input of the graph, or that of another")
            self._caches.remove(past)
        sides = node.inputs[:3] if node.input(1) or node.input(2) else node.inputs[:1]
        return products(self._graph, node, *sides)

    def _embedding(self, value: str) -> Weight:
        node = self._graph.claim(value, "Gather", "GatherBlockQuantized")
        if node.input(1) != self._names.input_ids:
            node.refuse(f"looks up {node.input(1)!r}, not {self._names.input_ids!r}")
        if node.op == "GatherBlockQuantized":
            return blocks_of_lookup(self._graph, node)
        if node.integer("axis", 0) != 0:
            node.refuse("does not look up rows")
        if self._graph.op(node.input(0)) != "Transpose":
            return floats(self._graph, node.input(0), node, is_transposed=False)
        turned = self._graph.claim(node.input(0), "Transpose")
        if turned.attributes.get("perm", (1, 0)) != (1, 0):
            turned.refuse("does not exchange rows and columns")
        return floats(self._graph, turned.input(0), turned, is_transposed=True)
