"""Ways to bend the graph of a `TinyGenai`: each function returns an edit, or is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from tests.importers.tiny_genai import node, set_attribute

if TYPE_CHECKING:
    from collections.abc import Callable

GQA, NORM = "GroupQueryAttention", "SimplifiedLayerNormalization"
SKIP = "SkipSimplifiedLayerNormalization"


def insert_behind(model: ModelProto, value: str, op: str, *more: str, **attributes: Any) -> None:
    """Put an operation between `value` and whoever reads it."""
    index = next(i for i, one in enumerate(model.graph.node) if value in one.output)
    for later in model.graph.node:
        for position, name in enumerate(later.input):
            if name == value:
                later.input[position] = f"{value} changed"
    added = helper.make_node(op, [value, *more], [f"{value} changed"], f"/added {op}", **attributes)
    model.graph.node.insert(index + 1, added)


def attribute(op: str, name: str, value: object, index: int = 0) -> Callable[[ModelProto], None]:
    """Return what makes a model give one of the nodes that are `op` another attribute."""
    return lambda model: set_attribute(node(model, op, index), name, value)


def swap_outputs(op: str, index: int) -> Callable[[ModelProto], None]:
    """Return what makes the operation's first output another one of its outputs."""

    def edit(model: ModelProto) -> None:
        outputs = node(model, op).output
        outputs[0], outputs[index] = outputs[index], outputs[0]

    return edit


def input_of(op: str, position: int, name: str) -> Callable[[ModelProto], None]:
    """Return what makes a model give the first node that is `op` another input."""

    def edit(model: ModelProto) -> None:
        changed = node(model, op)
        changed.input.extend([""] * (position + 1 - len(changed.input)))
        changed.input[position] = name

    return edit


def other_op(op: str, other: str) -> Callable[[ModelProto], None]:
    """Return what makes a model turn the first node that is `op` into another operation."""

    def edit(model: ModelProto) -> None:
        node(model, op).op_type = other

    return edit


def after(value: str, op: str, *more: str, **attributes: Any) -> Callable[[ModelProto], None]:
    """Return what makes a model put an operation behind a value, as `insert_behind`."""
    return lambda model: insert_behind(model, value, op, *more, **attributes)


def constant(op: str, position: int, value: int | list[int]) -> Callable[[ModelProto], None]:
    """Return what makes a model give the first node that is `op` another constant."""

    def edit(model: ModelProto) -> None:
        tensor = numpy_helper.from_array(np.array(value, np.int64), "another")
        model.graph.initializer.append(tensor)
        input_of(op, position, "another")(model)

    return edit


def last(op: str) -> Callable[[ModelProto], None]:
    """Return what makes the logits the result of another operation behind the head."""

    def edit(model: ModelProto) -> None:
        head = next(one for one in model.graph.node if one.output[0] == "logits")
        head.output[0] = "not yet"
        model.graph.node.append(helper.make_node(op, ["not yet"], ["logits"], f"/last {op}"))

    return edit


def append(added: NodeProto) -> Callable[[ModelProto], None]:
    """Return what makes a model add a node at the end."""
    return lambda model: model.graph.node.append(added)
