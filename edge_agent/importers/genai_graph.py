"""A view of an ONNX graph to find one's way by: who makes a value, and what was not understood.

Whoever reads a graph claims the nodes whose meaning he has taken over. What the result depends on
and nobody has claimed at the end would silently be ignored, so it is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from edge_agent.errors import ModelError
from edge_agent.importers.genai_tensors import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from edge_agent.importers.genai_tensors import Tensor

    Locate = Callable[[TensorProto], Tensor]

Attribute = int | float | bytes | tuple[int, ...] | TensorProto | GraphProto

# Phi-4-mini's graph has about 400 nodes; a Llama of 126 layers some 1,800.
MAX_NODES = 1 << 16

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Axes, sizes, lengths: a decoder's constants are a few integers.
_MAX_CONSTANT = 16
_INTEGERS = {"INT32": "<i4", "INT64": "<i8"}
_ATTRIBUTE_FIELDS: dict[int, str] = {
    AttributeProto.INT: "i",
    AttributeProto.FLOAT: "f",
    AttributeProto.STRING: "s",
    AttributeProto.INTS: "ints",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation; inputs and outputs that are left out are empty names."""

    op: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Attribute]

    def input(self, index: int) -> str:
        """Return the name of an input, empty if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        """Return the name of an output, empty if it is left out."""
        return self.outputs[index] if index < len(self.outputs) else ""

    def integer(self, name: str, default: int | None = None) -> int:
        """Return the integer attribute `name`, or raise ModelError."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            self.refuse(f"attribute {name!r} is not the integer that is expected")
        return value

    def number(self, name: str, default: float) -> float:
        """Return the float attribute `name`, or raise ModelError."""
        value = self.attributes.get(name, default)
        if not isinstance(value, float):
            self.refuse(f"attribute {name!r} is not the number that is expected")
        return value

    def has_only(self, *, inputs: int, attributes: Collection[str]) -> None:
        """Raise ModelError where it has more than so many inputs, or other attributes."""
        for index, name in enumerate(self.inputs):
            if name and index >= inputs:
                self.refuse(f"input {index} ({name!r}) is not known to this version")
        if unknown := sorted(set(self.attributes) - set(attributes)):
            self.refuse(f"attribute {unknown[0]!r} is not known to this version")

    def refuse(self, problem: str) -> NoReturn:
        """Raise the ModelError that says what is wrong with this node."""
        msg = f"{self.op} {self.name!r}: {problem}"
        raise ModelError(msg)


class Graph:
    """The main graph of a model.

    Raises:
        ModelError: too large, it has functions, nodes are not in order, or two things have one
            name.
    """

    def __init__(self, model: ModelProto, locate: Locate) -> None:
        """View the graph of `model`, whose tensors `locate` finds."""
        graph = model.graph
        if model.functions or graph.sparse_initializer or len(graph.node) > MAX_NODES:
            msg = f"a model with functions, sparse tensors or more than {MAX_NODES} nodes"
            raise ModelError(msg)
        self._locate = locate
        self.outputs = {value.name for value in graph.output}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        # Older files list initializers among the inputs too.
        self.inputs = {value.name for value in graph.input} - set(self._initializers)
        self._nodes = [_node(node) for node in graph.node]
        self._makers: dict[str, int] = {}
        self._claimed: set[int] = set()
        self._check_order(len(graph.initializer))

    def _check_order(self, num_initializers: int) -> None:
        """Refuse what could send whoever follows the values in a circle."""
        known = {"", *self.inputs, *self._initializers}
        if len(self._initializers) < num_initializers:
            msg = "two initializers have the same name"
            raise ModelError(msg)
        for index, node in enumerate(self._nodes):
            if missing := [name for name in node.inputs if name not in known]:
                node.refuse(f"input {missing[0]!r} is not made by any node before it")
            for name in filter(None, node.outputs):
                if name in known:
                    node.refuse(f"output {name!r} is made twice")
                self._makers[name] = index
                known.add(name)

    def claim(self, value: str, *ops: str) -> Node:
        """Return the node that makes `value`, which must be one of `ops`; it is understood.

        Raises:
            ModelError: an input or a weight stands there, or another operation.
        """
        index = self._makers.get(value)
        if index is None:
            msg = f"value {value!r} is no result of an operation; {' or '.join(ops)} is expected"
            raise ModelError(msg)
        node = self._nodes[index]
        if node.op not in ops:
            node.refuse(f"stands where this version knows {' or '.join(ops)} only")
        self._claimed.add(index)
        return node

    def op(self, value: str) -> str:
        """Return the operation that makes `value`, empty for an input or a weight."""
        index = self._makers.get(value)
        return "" if index is None else self._nodes[index].op

    def behind_casts(self, value: str) -> str:
        """Return what `value` is before it was rounded to another width of float."""
        while self.op(value) == "Cast":
            cast = self.claim(value, "Cast")
            if cast.integer("to") not in _FLOATS:
                cast.refuse("casts to something else than a float")
            value = cast.input(0)
        return value

    def is_weight(self, value: str) -> bool:
        """Return whether `value` is stored in the model."""
        return value in self._initializers

    def weight(self, value: str, user: Node) -> Tensor:
        """Return where the weight `value` of `user` lies, or raise ModelError."""
        if value not in self._initializers:
            user.refuse(f"its input {value!r} is not a stored tensor")
        return self._locate(self._initializers[value])

    def integers(self, value: str, user: Node) -> list[int]:
        """Return the constant integers of the input `value` of `user`.

        Raises:
            ModelError: not a constant of a few integers.
        """
        if value in self._initializers:
            tensor = self._locate(self._initializers[value])
        else:
            constant = self.claim(value, "Constant").attributes.get("value")
            if not isinstance(constant, TensorProto):
                user.refuse(f"its input {value!r} is not a constant tensor")
            tensor = self._locate(constant)
        if tensor.dtype not in _INTEGERS or tensor.numbers > _MAX_CONSTANT:
            raise refuse(value, "not the few integers that are expected")
        raw = tensor.read(0, tensor.numbers)
        return [int(number) for number in np.frombuffer(raw, _INTEGERS[tensor.dtype])]

    def branch_tensors(self, branch: GraphProto) -> list[Tensor]:
        """Return the outputs of `branch`, a graph of constants alone.

        Raises:
            ModelError: there is anything else in it.
        """
        nodes = [_node(node) for node in branch.node]
        constants = {tensor.name: tensor for tensor in branch.initializer}
        for node in nodes:
            constant = node.attributes.get("value")
            if node.op != "Constant" or not isinstance(constant, TensorProto):
                node.refuse("stands in a branch, where this version knows constants only")
            constants[node.output(0)] = constant
        names = [value.name for value in branch.output]
        if missing := [name for name in names if name not in constants]:
            msg = f"output {missing[0]!r} of a branch is no constant"
            raise ModelError(msg)
        return [self._locate(constants[name]) for name in names]

    def check_understood(self, result: str) -> None:
        """Raise ModelError if `result` depends on a node that nobody has claimed."""
        matters = {result}
        for index in range(len(self._nodes) - 1, -1, -1):  # they are in order
            node = self._nodes[index]
            if matters.isdisjoint(filter(None, node.outputs)):
                continue
            matters.update(node.inputs)
            if index not in self._claimed and node.op != "Constant":
                node.refuse("its meaning is not known to this version, which would ignore it")


def _node(proto: NodeProto) -> Node:
    if proto.domain not in _DOMAINS:
        msg = f"{proto.op_type} {proto.name!r}: operations of {proto.domain!r} are not known"
        raise ModelError(msg)
    return Node(
        op=proto.op_type,
        name=proto.name,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={attribute.name: _attribute(attribute) for attribute in proto.attribute},
    )


def _attribute(proto: AttributeProto) -> Attribute:
    field = _ATTRIBUTE_FIELDS.get(proto.type)
    if field is None:
        msg = f"attribute {proto.name!r} is of a type that this version does not read"
        raise ModelError(msg)
    value: Attribute = getattr(proto, field)
    return tuple(proto.ints) if proto.type == AttributeProto.INTS else value
