"""Two graphs in one: the number of tokens decides which runs, and both see what lies around."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_agent.importers.branches import all_nodes, by_tokens


def adding(number: int) -> ModelProto:
    """Return a graph that adds `number` in a branch of its own, and 100 that all share."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["shared", "own"], ["inner.sum"], name="inner.add")],
        "inner",
        [],
        [helper.make_tensor_value_info("inner.sum", TensorProto.INT64, ["T"])],
    )
    nodes = [
        helper.make_node("Add", ["input_ids", "hundred"], ["shared"], name="add"),
        helper.make_node("If", ["yes"], ["sum"], name="if", then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["sum", f"number.{number}"], ["out"], name="last"),
        helper.make_node("Identity", ["shared"], ["own"], name="own"),
    ]
    nodes.insert(1, nodes.pop())
    arrays = {"hundred": np.array([100]), f"number.{number}": np.array([number]), "yes": True}
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["T"])],
        [helper.make_tensor_value_info("out", TensorProto.INT64, ["T"])],
        initializer=[numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(("num_tokens", "number"), [(1, 1), (3, 1), (4, 2), (9, 2)])
def test_the_number_of_tokens_decides(num_tokens: int, number: int) -> None:
    joined = by_tokens(adding(1), adding(2), most_tokens=3)
    onnx.checker.check_model(joined)

    tokens = np.arange(num_tokens)
    (out,) = ReferenceEvaluator(joined).run(None, {"input_ids": tokens})

    np.testing.assert_array_equal(out, 2 * (tokens + 100) + number)


def test_what_both_name_is_there_once_and_all_nodes_are_found() -> None:
    joined = by_tokens(adding(1), adding(2), most_tokens=3)

    names = [tensor.name for tensor in joined.graph.initializer]
    assert sorted(names) == ["few.most_tokens", "hundred", "number.1", "number.2", "yes"]
    found = [node.name for node in all_nodes(joined.graph)]
    assert {"by_tokens", "few.add", "many.last"} <= set(found)
    assert found.count("inner.add") == 4
