"""Bound once, bound again only where the shape or the place is another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engine.binding import Binding

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Session:
    """Notes what is bound, as onnxruntime would see it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def bind_input(self, name: str, *place: object) -> None:
        self.calls.append(name)

    def bind_output(self, name: str, *place: object) -> None:
        self.calls.append(name)


def test_arrays_of_one_shape_are_bound_once_and_read_anew() -> None:
    session = Session()
    binding = Binding(session)
    for number in range(5):
        binding.feed("ids", np.array([number, 7]))

        assert binding._inputs["ids"].tolist() == [number, 7]
    assert session.calls == ["ids"]


def test_what_was_fed_is_never_written_to() -> None:
    binding = Binding(Session())
    first = np.array([1, 2])
    binding.feed("ids", first)
    binding.feed("ids", np.array([3, 4]))

    assert first.tolist() == [1, 2]


def test_another_shape_or_type_is_bound_again() -> None:
    session = Session()
    binding = Binding(session)
    arrays: tuple[NDArray[Any], ...] = (
        np.zeros(2, np.int64),
        np.zeros((2, 1), np.int64),
        np.zeros((2, 1), np.int32),
    )
    for array in arrays:
        binding.feed("ids", array)

        assert binding._inputs["ids"].dtype == array.dtype
        assert binding._inputs["ids"].shape == array.shape
    assert len(session.calls) == 3


def test_what_is_held_is_read_in_place() -> None:
    binding = Binding(Session())
    cache = np.zeros(3, np.float32)
    binding.hold("past", cache)

    assert binding._inputs["past"] is cache


def test_an_output_is_bound_again_where_it_moved_or_grew() -> None:
    session = Session()
    binding = Binding(session)
    room = np.empty((4, 8), np.float32)
    for array in (room[:1], room[:1], room[:2], room[1:3], room[1:3]):
        binding.receive("logits", array)

    assert session.calls == ["logits"] * 3
