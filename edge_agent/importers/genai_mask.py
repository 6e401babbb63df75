"""What a graph derives from the length of its attention mask: lengths of rows, rotary tables.

Our decoder has its own inputs for both, so nothing of this is carried over but the tables; it must
only be proven to be the standard subgraph, and not a mask that hides tokens from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import GraphProto, TensorProto

if TYPE_CHECKING:
    from edge_agent.importers.genai_graph import Graph, Node
    from edge_agent.importers.genai_tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cosines and sines, both [positions, dims / 2]."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeTables:
    """The tables of a model; those with `long` use it for all that is longer than `threshold`."""

    short: Table
    long: Table | None = None
    threshold: int = 0


class Mask:
    """The attention mask, an input of the graph [rows, length] of ones, on the right side."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._name = name

    def check_lengths(self, last: str, total: str) -> None:
        """Check that `last` is each row's number of ones, less one, and `total` the mask's length.

        Raises:
            ModelError: one is derived in another way.
        """
        subtract = self._graph.claim(self._behind_int32(last), "Sub")
        ones = self._graph.claim(subtract.input(0), "ReduceSum")
        ones.has_only(inputs=2, attributes=("keepdims", "noop_with_empty_axes"))
        self._expect(subtract, 1, [1])
        self._expect(ones, 1, [1])
        if ones.input(0) != self._name:
            ones.refuse(f"adds {ones.input(0)!r}, not {self._name!r}")
        self._check_length(self._behind_int32(total))

    def tables(self, user: Node, cos: str, sin: str) -> RopeTables:
        """Return the rotary tables `cos` and `sin`, two inputs of `user`.

        Raises:
            ModelError: neither two stored tensors, nor chosen between two pairs by the length.
        """
        if not self._graph.op(cos):
            pair = [self._graph.weight(name, user) for name in (cos, sin)]
            return RopeTables(short=_table(user, pair))
        choice = self._graph.claim(cos, "If")
        if list(choice.outputs) != [cos, sin]:
            choice.refuse(f"makes {list(choice.outputs)}, not cosines and sines")
        is_longer = self._graph.claim(choice.input(0), "Greater")
        self._check_length(is_longer.input(0))
        threshold = self._graph.integers(is_longer.input(1), is_longer)
        if len(threshold) != 1 or threshold[0] < 1:
            is_longer.refuse(f"compares with {threshold}, not with a length")
        return RopeTables(
            short=self._branch(choice, "else_branch"),
            long=self._branch(choice, "then_branch"),
            threshold=threshold[0],
        )

    def _branch(self, choice: Node, name: str) -> Table:
        branch = choice.attributes.get(name)
        if not isinstance(branch, GraphProto):
            choice.refuse(f"has no {name}")
        return _table(choice, self._graph.branch_tensors(branch))

    def _behind_int32(self, value: str) -> str:
        cast = self._graph.claim(value, "Cast")
        if cast.integer("to") != TensorProto.INT32:
            cast.refuse("casts to something else than int32")
        return cast.input(0)

    def _check_length(self, value: str) -> None:
        """Check that `value` is dimension 1 of the mask."""
        pick = self._graph.claim(value, "Gather")
        pick.has_only(inputs=2, attributes=("axis",))
        shape = self._graph.claim(pick.input(0), "Shape")
        shape.has_only(inputs=1, attributes=())
        self._expect(pick, 1, [1])
        if pick.integer("axis", 0) != 0 or shape.input(0) != self._name:
            pick.refuse(f"is not the length of {self._name!r}")

    def _expect(self, node: Node, index: int, expected: list[int]) -> None:
        found = self._graph.integers(node.input(index), node)
        if found != expected:
            node.refuse(f"input {index} is {found}, expected {expected}")


def _table(user: Node, tensors: list[Tensor]) -> Table:
    if len(tensors) != 2:  # noqa: PLR2004  # cosines and sines
        user.refuse(f"{len(tensors)} rotary tables")
    cos, sin = tensors
    is_matrix = len(cos.shape) == 2 and min(cos.shape) >= 1  # noqa: PLR2004
    if cos.shape != sin.shape or not is_matrix or not (cos.is_float and sin.is_float):
        user.refuse(f"rotary tables of {list(cos.shape)} and {list(sin.shape)}")
    return Table(cos=cos, sin=sin)
