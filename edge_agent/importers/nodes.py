"""Collects nodes and initializers of a graph. Large arrays are named by their place in a file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edge_agent.importers import weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_agent.importers.weights import Region

MICROSOFT = "com.microsoft"
_MICROSOFT_OPS = {"GatherBlockQuantized", "MatMulNBits", "QuickGelu"}


class Nodes:
    """What a graph is made of so far; `regions` are the arrays of the weights file."""

    def __init__(self, regions: Mapping[str, Region]) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.regions = regions
        self._added: set[str] = set()

    def node(
        self,
        op: str,
        arrays: list[str],
        output: str,
        **attributes: Any,  # noqa: ANN401  # numbers, strings or lists, as the op has it
    ) -> str:
        """Add a node with one output and return the name of that."""
        domain = MICROSOFT if op in _MICROSOFT_OPS else ""
        node = helper.make_node(
            op, arrays, [output], name=output.removesuffix(".out"), domain=domain, **attributes
        )
        self.nodes.append(node)
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Name a small array that lies in the graph itself; equal names are one array."""
        if name not in self._added:
            self._added.add(name)
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def rows_of(self, columns: int) -> str:
        """Name the shape of rows with `columns` numbers each, as `Reshape` takes it."""
        return self.constant(f"rows_of.{columns}", np.array([-1, columns], np.int64))

    def external(self, array: str) -> str:
        """Name an array of the weights file."""
        return self._placed(array, array, self.regions[array].shape)

    def external_rows(self, array: str) -> str:
        """Name the same place in the file, seen as [rows, all of a row]: no second copy of it."""
        rows, *row = self.regions[array].shape
        return self._placed(f"{array}.rows", array, (rows, math.prod(row)))

    def _placed(self, name: str, array: str, shape: tuple[int, ...]) -> str:
        if name in self._added:
            return name
        self._added.add(name)
        region = self.regions[array]
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(region.dtype),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": weights.FILE_NAME, "offset": region.offset, "length": region.num_bytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name
