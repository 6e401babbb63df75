"""Rows of one tensor of a GGUF file as the compiler asks for them: floats, or blocks as stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.importers import ggml_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.importers.arrays import F32, Raw
    from edge_agent.importers.gguf import GgufFile
    from edge_agent.importers.gguf_header import Tensor
    from edge_agent.importers.quantize import Packed
    from edge_agent.importers.source import Blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufPart:
    """All rows of `tensor`; row i of the part is row `order[i]` of the tensor, or row i if None."""

    gguf: GgufFile
    tensor: Tensor
    order: NDArray[np.int64] | None = None

    @property
    def name(self) -> str:
        """The tensor's name, for errors."""
        return self.tensor.name

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.tensor.rows

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.tensor.columns

    @property
    def blocks(self) -> Blocks | None:
        """How its blocks are carried over; None where only floats can be had."""
        return ggml_blocks.carried(self.tensor.kind)

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32 [stop - start, columns].

        Raises:
            ModelError: the tensor's type is not read, or the rows hold infinity or NaN.
        """
        try:
            return ggml_blocks.floats(self.tensor.kind, self._raw(start, stop))
        except ModelError as exc:
            raise self._error(exc) from exc

    def packed(self, start: int, stop: int) -> Packed:
        """Return rows [start, stop) as they are stored; only where `blocks` is not None.

        Raises:
            ModelError: a scale or an offset is infinity or NaN.
        """
        try:
            return ggml_blocks.packed(self.tensor.kind, self._raw(start, stop))
        except ModelError as exc:
            raise self._error(exc) from exc

    def _raw(self, start: int, stop: int) -> Raw:
        if self.order is None:
            return self.gguf.rows(self.tensor, start, stop)
        order = self.order[start:stop]
        first, last = int(order.min()), int(order.max())
        return self.gguf.rows(self.tensor, first, last + 1)[order - first]

    def _error(self, problem: ModelError) -> ModelError:
        return ModelError(f"{self.gguf.name}: tensor {self.name!r}: {problem}")
