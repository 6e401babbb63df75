"""Arrays that a session reads from and writes to; what stays as it was is not bound again.

Binding an array costs about 10 microseconds, and a step of a small model takes a few thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class IoBinding(Protocol):
    """What is needed of onnxruntime's `IOBinding`."""

    def bind_input(self, name: str, *place: object) -> None:
        """Read input `name` from device, number, type, shape and address."""

    def bind_output(self, name: str, *place: object) -> None:
        """Write output `name` to device, number, type, shape and address."""


class Binding:
    """One set of bound arrays, kept alive for as long as they are bound. All are contiguous."""

    def __init__(self, of_session: IoBinding) -> None:
        self.of_session = of_session
        self._inputs: dict[str, NDArray[Any]] = {}
        self._outputs: dict[str, NDArray[Any]] = {}

    def hold(self, name: str, array: NDArray[Any]) -> None:
        """Have runs read input `name` where `array` lies."""
        self._inputs[name] = array
        self.of_session.bind_input(name, "cpu", 0, *_place(array))

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Have runs read input `name` from a copy of `array`, until it is fed another."""
        held = self._inputs.get(name)
        if held is None or held.shape != array.shape or held.dtype != array.dtype:
            self.hold(name, np.array(array, order="C"))
        else:
            np.copyto(held, array)

    def receive(self, name: str, array: NDArray[Any]) -> None:
        """Have runs write output `name` where `array` lies."""
        held = self._outputs.get(name)
        if held is None or _place(held) != _place(array):
            self._outputs[name] = array
            self.of_session.bind_output(name, "cpu", 0, *_place(array))


def _place(array: NDArray[Any]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    return array.dtype, array.shape, array.ctypes.data
