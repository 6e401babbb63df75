"""How one chunk of a prompt attends over an int8 cache: in floats, beside the rows that decode.

The kernel of GroupQueryAttention for int8 caches reads them fastest for one new token, and takes
two to four times as long as that for floats when there are many. So the longest row of a step can
stay out of the padded rows and go through a branch of its own in each layer: what its slot holds is
turned into floats, a few heads at a time, attended over with the kernel for floats, and thrown away
again; the new keys and values come out rounded with the same scales, for the caller to store. The
result is that of the int8 kernel (to the last bit where the cache is), but for the chunk's own
tokens, which see each other before they are rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from edge_agent.modelstore.fit import heads_at_once

if TYPE_CHECKING:
    from edge_agent.importers.nodes import Nodes
    from edge_agent.modelstore.manifest import Shape

_MICROSOFT = "com.microsoft"
_LOWEST, _HIGHEST = -128, 127


def chunk_inputs() -> list[ValueInfoProto]:
    """Return the graph inputs that tell of the chunk, W tokens; all but the first are idle without.

    `has_chunk`: whether there is one. `chunk_idx` and `chunk_positions` [1, W]: packed indices of
    its tokens, and their rows in the rope tables. `chunk_slot` [1]: its slot, counted from the
    first that is bound. `chunk_past` [1]: tokens that the slot holds.
    """
    int64 = TensorProto.INT64
    return [
        helper.make_tensor_value_info("has_chunk", TensorProto.BOOL, []),
        helper.make_tensor_value_info("chunk_idx", int64, [1, "W"]),
        helper.make_tensor_value_info("chunk_positions", int64, [1, "W"]),
        helper.make_tensor_value_info("chunk_slot", int64, [1]),
        helper.make_tensor_value_info("chunk_past", int64, [1]),
    ]


def chunk_outputs(shape: Shape) -> list[ValueInfoProto]:
    """Return the graph outputs `chunk.N.k` and `chunk.N.v`: what the slot is to hold behind."""
    return [_stored(f"chunk.{n}.{side}", shape) for n in range(shape.layers) for side in "kv"]


class ChunkAttention:
    """Adds the branches to a graph; names of its inputs are those of the decoder graph."""

    def __init__(self, out: Nodes, shape: Shape) -> None:
        self._out = out
        self._shape = shape
        self._at_once = heads_at_once(shape)
        self._begin()

    def _begin(self) -> None:
        """Add what all layers share: lengths, and constants."""
        out, heads, dim = self._out, self._shape.heads, self._shape.head_dim
        kv = self._shape.kv_heads
        out.constant("chunk.0", np.array([0], np.int64))
        out.constant("chunk.1", np.array([1], np.int64))
        out.constant("chunk.2", np.array([2], np.int64))
        out.constant("chunk.axes", np.array([0, 1, 2], np.int64))
        out.constant("chunk.parts", np.array([heads * dim, kv * dim, kv * dim], np.int64))
        out.constant("chunk.lowest", np.array(_LOWEST, np.float32))
        out.constant("chunk.highest", np.array(_HIGHEST, np.float32))
        out.constant("chunk.none", np.empty((0, heads * dim), np.float32))
        out.constant("chunk.none.kv", np.empty((1, kv, 0, dim), np.int8))
        for first in range(0, kv, self._at_once):
            out.constant(f"chunk.first.{first}", np.array([first], np.int64))
            out.constant(f"chunk.behind.{first}", np.array([first + self._at_once], np.int64))
        out.node("Shape", ["chunk_idx"], "chunk.length", start=1, end=2)
        out.node("Add", ["chunk_past", "chunk.length"], "chunk.end")
        out.node("Add", ["chunk_slot", "chunk.1"], "chunk.next_slot")
        out.node("Sub", ["chunk.end", "chunk.1"], "chunk.last")
        out.node("Cast", ["chunk.last"], "chunk.seqlens_k", to=TensorProto.INT32)
        out.node("Cast", ["chunk.length"], "chunk.query_seqlens", to=TensorProto.INT32)
        out.node("Squeeze", ["chunk.end", "chunk.0"], "chunk.end.scalar")
        out.node("Cast", ["chunk.end.scalar"], "chunk.total_len", to=TensorProto.INT32)
        for first in range(0, kv, self._at_once):
            for what, slot, head, end in (
                ("starts", "chunk_slot", f"chunk.first.{first}", "chunk.0"),
                ("ends", "chunk.next_slot", f"chunk.behind.{first}", "chunk_past"),
            ):
                out.node("Concat", [slot, head, end], f"chunk.{what}.{first}", axis=0)

    def attend(self, number: int, qkv: str) -> str:
        """Attend with the chunk in layer `number`; return its rows [W, heads * head_dim], or none.

        `qkv` are the packed queries, keys and values of all tokens.
        """
        shape, name = self._shape, f"layers.{number}.chunk"
        wide = shape.heads * shape.head_dim
        outputs = [f"{name}.rows", *(f"chunk.{number}.{side}" for side in "kv")]
        kinds = [
            helper.make_tensor_value_info(f"{name}.then.rows", TensorProto.FLOAT, ["W", wide]),
            *(_stored(f"{name}.then.{side}", shape) for side in "kv"),
        ]
        nothing = [
            helper.make_node("Identity", ["chunk.none"], [f"{name}.else.rows"]),
            *(helper.make_node("Identity", ["chunk.none.kv"], [f"{name}.else.{s}"]) for s in "kv"),
        ]
        empty = [
            helper.make_tensor_value_info(f"{name}.else.rows", TensorProto.FLOAT, [0, wide]),
            *(_stored(f"{name}.else.{side}", shape, tokens=0) for side in "kv"),
        ]
        node = helper.make_node(
            "If",
            ["has_chunk"],
            outputs,
            name=name,
            then_branch=_graph(_Branch(shape, self._at_once, number).nodes(qkv), name, kinds),
            else_branch=_graph(nothing, f"{name}.else", empty),
        )
        self._out.nodes.append(node)
        return outputs[0]


class _Branch:
    """The nodes of one layer's branch."""

    def __init__(self, shape: Shape, at_once: int, number: int) -> None:
        self._shape = shape
        self._firsts = range(0, shape.kv_heads, at_once)
        self._at_once = at_once
        self._number = number
        self._name = f"layers.{number}.chunk"
        self._nodes: list[NodeProto] = []

    def nodes(self, qkv: str) -> list[NodeProto]:
        """Return all of them, from `qkv` to `.then.rows`, `.then.k` and `.then.v`."""
        picked = self._node("Gather", [qkv, "chunk_idx"], "picked", axis=0)
        q, k, v = self._split(picked)
        rows, news = [], {"k": [], "v": []}  # type: tuple[list[str], dict[str, list[str]]]
        for part, first in enumerate(self._firsts):
            past = [self._floats(side, first) for side in "kv"]
            row, *whole = self._attention([q[part], k[part], v[part]], past, first)
            rows.append(row)
            for side, array in zip("kv", whole, strict=True):
                cut = [array, "chunk_past", "chunk.end", "chunk.2"]
                news[side].append(self._node("Slice", cut, f"new.{side}.{first}"))
        together = self._node("Concat", rows, "together", axis=2)
        self._node("Squeeze", [together, "chunk.0"], "then.rows")
        for side in "kv":
            self._round(side, self._node("Concat", news[side], f"new.{side}", axis=1))
        return self._nodes

    def _split(self, picked: str) -> list[list[str]]:
        """Return q, k and v of [1, W, all], each in as many parts as heads are taken at once."""
        sides = self._outputs("Split", [picked, "chunk.parts"], ["q", "k", "v"], axis=2)
        count = len(self._firsts)
        return [
            self._outputs(
                "Split", [side], [f"{letter}.{n}" for n in range(count)], axis=2, num_outputs=count
            )
            if count > 1
            else [side]
            for letter, side in zip("qkv", sides, strict=True)
        ]

    def _floats(self, side: str, first: int) -> str:
        """Return what the slot holds of some heads, [1, heads at once, past, head_dim] floats."""
        cut = [f"past.{self._number}.{side}", f"chunk.starts.{first}", f"chunk.ends.{first}"]
        stored = self._node("Slice", [*cut, "chunk.axes"], f"stored.{side}.{first}")
        steps = self._node("Cast", [stored], f"steps.{side}.{first}", to=TensorProto.FLOAT)
        heads = [f"chunk.first.{first}", f"chunk.behind.{first}", "chunk.1"]
        scale = self._node(
            "Slice", [f"{side}_scale.{self._number}", *heads], f"scale.{side}.{first}"
        )
        return self._node("Mul", [steps, scale], f"floats.{side}.{first}")

    def _attention(self, qkv: list[str], past: list[str], first: int) -> list[str]:
        """Return the rows, and keys and values of the past with those of the chunk behind them."""
        group = self._shape.heads // self._shape.kv_heads
        arrays = [*qkv, *past, "chunk.seqlens_k", "chunk.total_len", "cos", "sin"]
        # Unused inputs are empty names, as in the attention of the other rows.
        arrays += ["chunk_positions", *[""] * 6, "chunk.query_seqlens"]
        return self._outputs(
            "GroupQueryAttention",
            arrays,
            [f"{what}.{first}" for what in ("attended", "whole.k", "whole.v")],
            domain=_MICROSOFT,
            num_heads=self._at_once * group,
            kv_num_heads=self._at_once,
            do_rotary=1,
            rotary_interleaved=0,
        )

    def _round(self, side: str, array: str) -> None:
        """Round new floats to steps of the scales, as the int8 kernel does when it stores them."""
        steps = self._node("Div", [array, f"{side}_scale.{self._number}"], f"off.{side}")
        whole = self._node("Round", [steps], f"whole.{side}")
        clipped = self._node("Clip", [whole, "chunk.lowest", "chunk.highest"], f"clipped.{side}")
        self._node("Cast", [clipped], f"then.{side}", to=TensorProto.INT8)

    def _node(self, op: str, arrays: list[str], output: str, **attributes: int) -> str:
        return self._outputs(op, arrays, [output], **attributes)[0]

    def _outputs(
        self,
        op: str,
        arrays: list[str],
        outputs: list[str],
        **attributes: Any,  # noqa: ANN401  # numbers or strings, as the op has it
    ) -> list[str]:
        names = [f"{self._name}.{output}" for output in outputs]
        self._nodes.append(helper.make_node(op, arrays, names, name=names[0], **attributes))
        return names


def _stored(name: str, shape: Shape, tokens: int | str = "W") -> ValueInfoProto:
    dims = [1, shape.kv_heads, tokens, shape.head_dim]
    return helper.make_tensor_value_info(name, TensorProto.INT8, dims)


def _graph(nodes: list[NodeProto], name: str, outputs: list[ValueInfoProto]) -> GraphProto:
    return helper.make_graph(nodes, name, [], outputs)
