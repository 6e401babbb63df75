"""A graph is a list of operations in order, each known by who makes what; nothing is overlooked."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edge_agent.errors import ModelError
from edge_agent.importers import genai_graph
from edge_agent.importers.genai_graph import Graph
from edge_agent.importers.genai_tensors import Tensor

NUMBERS = np.array([1, 2], np.float32)
NODES = [
    helper.make_node("Add", ["x", "w"], ["sum"], "add"),
    helper.make_node("Cast", ["sum"], ["half"], "narrow", to=TensorProto.FLOAT16),
    helper.make_node("Cast", ["half"], ["whole"], "widen", to=TensorProto.FLOAT),
    helper.make_node("Mul", ["whole", "w"], ["y"], "mul", axes=[1, 2], text="t", alpha=1.5, n=3),
]


def locate(proto: TensorProto) -> Tensor:
    """Return a tensor that lies in the model."""
    dtype = TensorProto.DataType.Name(proto.data_type)
    return Tensor(name=proto.name, shape=tuple(proto.dims), dtype=dtype, inline=proto.raw_data)


def graph(*nodes: NodeProto, **arrays: object) -> Graph:
    """Return a graph from `x` to `y` of these nodes, by default `NODES`."""
    stored = {"w": np.float32(1), **arrays}
    weights = [numpy_helper.from_array(np.array(a), name) for name, a in stored.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    made = helper.make_graph(nodes or NODES, "g", values[:1], values[1:], weights)
    return Graph(helper.make_model(made), locate)


def test_values_are_followed_to_who_makes_them() -> None:
    known = graph()

    assert known.op("y") == "Mul"
    assert known.op("x") == known.op("w") == ""
    assert known.claim("y", "Mul", "Add").name == "mul"
    assert known.behind_casts("whole") == "sum"
    assert known.outputs == {"y"}
    assert known.inputs == {"x"}
    assert known.is_weight("w")


def test_attributes_are_read_by_their_type() -> None:
    node = graph().claim("y", "Mul")

    assert node.integer("n") == 3
    assert node.integer("m", 7) == 7
    assert node.number("alpha", 0.0) == 1.5
    assert node.attributes["axes"] == (1, 2)
    with pytest.raises(ModelError, match="Mul 'mul': attribute 'text' is not the integer"):
        node.integer("text")
    with pytest.raises(ModelError, match="Mul 'mul': attribute 'm' is not the integer"):
        node.integer("m")
    with pytest.raises(ModelError, match="Mul 'mul': attribute 'axes' is not the number"):
        node.number("axes", 0.0)


def test_inputs_and_attributes_that_are_not_known_are_named() -> None:
    node = graph().claim("y", "Mul")

    node.has_only(inputs=2, attributes=("axes", "text", "alpha", "n"))
    with pytest.raises(ModelError, match=r"input 1 \('w'\) is not known"):
        node.has_only(inputs=1, attributes=node.attributes)
    with pytest.raises(ModelError, match="attribute 'text' is not known"):
        node.has_only(inputs=2, attributes=("axes", "alpha", "n"))


def test_what_nobody_claimed_is_named() -> None:
    known = graph()
    known.claim("y", "Mul")
    known.behind_casts("whole")

    with pytest.raises(ModelError, match="Add 'add': its meaning is not known"):
        known.check_understood("y")
    known.claim("sum", "Add")
    known.check_understood("y")


def test_what_the_result_does_not_depend_on_needs_no_claim() -> None:
    graph().check_understood("x")


def test_another_operation_than_expected_is_named() -> None:
    with pytest.raises(ModelError, match="Mul 'mul': stands where this version knows Add or Sub"):
        graph().claim("y", "Add", "Sub")
    with pytest.raises(ModelError, match="value 'x' is no result of an operation; Add is expected"):
        graph().claim("x", "Add")


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([NODES[1], NODES[0]], "Cast 'narrow': input 'sum' is not made by any node before it"),
        ([helper.make_node("Add", ["y", "x"], ["y"], "loop")], "input 'y' is not made by any"),
        ([NODES[0], NODES[0]], "Add 'add': output 'sum' is made twice"),
        ([helper.make_node("Add", ["x", "w"], ["x"])], "output 'x' is made twice"),
        ([helper.make_node("Add", ["x", "w"], ["w"])], "output 'w' is made twice"),
        ([helper.make_node("Fft", ["x"], ["y"], domain="their.own")], "of 'their.own' are not"),
        ([helper.make_node("Add", ["x"], ["y"], texts=["a"])], "'texts' is of a type that"),
    ],
)
def test_a_graph_that_is_none_is_refused(nodes: list[NodeProto], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        graph(*nodes)


def test_more_than_a_graph_of_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = ModelProto()
    functions.functions.add(name="f")
    sparse = ModelProto()
    sparse.graph.sparse_initializer.add()
    for model in (functions, sparse):
        with pytest.raises(ModelError, match="a model with functions, sparse tensors or more"):
            Graph(model, locate)
    monkeypatch.setattr(genai_graph, "MAX_NODES", 3)
    with pytest.raises(ModelError, match="more than 3 nodes"):
        graph()


def test_two_weights_of_one_name_are_refused() -> None:
    model = ModelProto()
    for _ in range(2):
        model.graph.initializer.add(name="w")

    with pytest.raises(ModelError, match="two initializers have the same name"):
        Graph(model, locate)


def test_weights_that_are_listed_as_inputs_too_are_weights() -> None:
    model = ModelProto()
    model.graph.initializer.add(name="w")
    model.graph.input.add(name="w")

    known = Graph(model, locate)

    assert known.inputs == set()
    assert known.is_weight("w")


def test_constants_are_read_from_nodes_and_from_weights() -> None:
    value = numpy_helper.from_array(np.array([4, -1]))
    node = helper.make_node("Constant", [], ["c"], value=value)
    known = graph(node, *NODES, sizes=np.array([3, 5], np.int32), size=np.array(7))

    user = known.claim("y", "Mul")

    assert known.integers("c", user) == [4, -1]
    assert known.integers("sizes", user) == [3, 5]
    assert known.integers("size", user) == [7]
    for name, problem in (
        ("w", "tensor 'w': not the few integers that are expected"),
        ("x", "value 'x' is no result of an operation; Constant is expected"),
    ):
        with pytest.raises(ModelError, match=problem):
            known.integers(name, user)


def test_a_constant_of_another_kind_is_refused() -> None:
    known = graph(helper.make_node("Constant", [], ["c"], value_int=3), *NODES)

    with pytest.raises(ModelError, match="its input 'c' is not a constant tensor"):
        known.integers("c", known.claim("y", "Mul"))


def test_a_weight_that_is_none_is_refused() -> None:
    known = graph()

    assert known.weight("w", known.claim("y", "Mul")).name == "w"
    with pytest.raises(ModelError, match="Mul 'mul': its input 'x' is not a stored tensor"):
        known.weight("x", known.claim("y", "Mul"))


def test_a_branch_is_constants_and_nothing_else() -> None:
    tensor = numpy_helper.from_array(NUMBERS, "t")
    constant = helper.make_node("Constant", [], ["a"], value=tensor)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "t")]
    branch = helper.make_graph([constant], "b", [], outputs, [tensor])

    found = graph().branch_tensors(branch)

    assert [one.inline for one in found] == [NUMBERS.tobytes()] * 2
    bent = GraphProto()
    bent.CopyFrom(branch)
    bent.node[0].op_type = "RandomNormal"
    with pytest.raises(ModelError, match="stands in a branch, where this version knows constants"):
        graph().branch_tensors(bent)
    bent.CopyFrom(branch)
    bent.output[0].name = "sum"
    with pytest.raises(ModelError, match="output 'sum' of a branch is no constant"):
        graph().branch_tensors(bent)
