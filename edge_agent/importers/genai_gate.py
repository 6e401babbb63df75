"""The gate of a layer in an onnxruntime-genai graph: silu(gate) * up, in each way it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.importers.genai_weights import products

if TYPE_CHECKING:
    from edge_agent.importers.genai_graph import Graph, Node
    from edge_agent.importers.genai_weights import Weight

_ACTIVATIONS = ("Mul", "QuickGelu")
# What QuickGelu means by leaving it out.
_QUICK_GELU_ALPHA = 1.702


def gate_and_up(graph: Graph, value: str) -> tuple[tuple[Weight, ...], str]:
    """Return the weights of gate and up that `value` is made of, and the value they multiply.

    They are one weight where the graph cuts its product in halves.

    Raises:
        ModelError: `value` is made in another way, or by another activation.
    """
    node = graph.claim(value, "Mul")
    activated, up = _factors(node)
    if graph.op(up) in _ACTIVATIONS:
        activated, up = up, activated
    gate = _behind_silu(graph, activated)
    if graph.op(gate) != "Split":
        return products(graph, node, gate, up)
    split = graph.claim(gate, "Split")
    sizes = graph.integers(split.input(1), split) if split.input(1) else []
    if list(split.outputs) != [gate, up] or len(set(sizes)) > 1:
        split.refuse("does not cut in halves, gate and up")
    if split.integer("axis", 0) not in {-1, 2}:  # of [rows, positions, features]
        split.refuse("does not cut along the last axis")
    return products(graph, split, split.input(0))


def _behind_silu(graph: Graph, value: str) -> str:
    """Return what `value` is the SiLU of: x * sigmoid(x)."""
    node = graph.claim(value, *_ACTIVATIONS)
    if node.op == "QuickGelu":  # x * sigmoid(alpha * x)
        if node.number("alpha", _QUICK_GELU_ALPHA) != 1:
            node.refuse("is not SiLU: its alpha is not 1")
        return node.input(0)
    first, second = _factors(node)
    gate, sigmoid = (second, first) if graph.op(first) == "Sigmoid" else (first, second)
    if graph.claim(sigmoid, "Sigmoid").input(0) != gate:
        node.refuse("is not SiLU: it multiplies two different values")
    return gate


def _factors(node: Node) -> tuple[str, str]:
    node.has_only(inputs=2, attributes=())
    return node.input(0), node.input(1)
