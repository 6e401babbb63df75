"""Makes one graph of two that compute the same: which one runs, the number of tokens decides.

Some kernels are fast for a few rows, others for many. Both graphs name the same weights, which lie
in the one graph around them. Knows nothing of what the graphs compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, ModelProto, ValueInfoProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

_FEW, _MANY = "few", "many"


def by_tokens(few: ModelProto, many: ModelProto, *, most_tokens: int) -> ModelProto:
    """Return `few` for up to `most_tokens` rows of `input_ids` [T], and `many` beyond.

    Both have the same inputs and outputs, and initializers of one name are one array. They are
    used up: their nodes get new names.
    """
    initializers = {
        tensor.name: tensor for each in (few, many) for tensor in each.graph.initializer
    }
    limit = numpy_helper.from_array(np.array([most_tokens], np.int64), "few.most_tokens")
    outputs = list(few.graph.output)
    choice = [
        helper.make_node("Shape", ["input_ids"], ["num_tokens"], name="num_tokens"),
        helper.make_node("LessOrEqual", ["num_tokens", limit.name], ["is_few"], name="is_few"),
        helper.make_node(
            "If",
            ["is_few"],
            [value.name for value in outputs],
            name="by_tokens",
            then_branch=_branch(few, _FEW),
            else_branch=_branch(many, _MANY),
        ),
    ]
    graph = helper.make_graph(
        choice,
        few.graph.name,
        list(few.graph.input),
        outputs,
        initializer=[*initializers.values(), limit],
    )
    return helper.make_model(graph, opset_imports=few.opset_import, ir_version=few.ir_version)


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield each node of `graph`, and those of its branches after the node that chooses."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


def _branch(model: ModelProto, name: str) -> GraphProto:
    """Return the nodes of `model` as a graph of their own; what they make is named after it."""
    nodes = list(model.graph.node)
    own = {output: f"{name}.{output}" for node in nodes for output in node.output if output}
    for node in nodes:
        node.name = f"{name}.{node.name}"
        node.output[:] = [own.get(array, array) for array in node.output]
    # Graphs within nodes see what was made before them, too.
    for node in all_nodes(model.graph):
        node.input[:] = [own.get(array, array) for array in node.input]
    return helper.make_graph(
        nodes, name, [], [_renamed(value, own[value.name]) for value in model.graph.output]
    )


def _renamed(value: ValueInfoProto, name: str) -> ValueInfoProto:
    renamed = ValueInfoProto()
    renamed.CopyFrom(value)
    renamed.name = name
    return renamed
