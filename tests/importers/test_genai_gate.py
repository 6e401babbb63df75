"""A gate is silu(gate) * up, however it is written, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from tests.importers.bent_genai import attribute, constant, input_of, other_op
from tests.importers.tiny_genai import TinyGenai, find_decoder, node

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto


def _more_parts(model: ModelProto) -> None:
    node(model, "Split").output.append("a third")


REFUSED = {
    "relu": (
        other_op("Sigmoid", "Relu"),
        "Relu '/sigmoid 0': stands where this version knows Sigmoid",
    ),
    "another gate": (input_of("Sigmoid", 0, "product layers.0.gate_up/1"), "two different values"),
    "no gate": (input_of("Mul", 1, "product layers.0.gate_up/1"), "knows Sigmoid only"),
}
REFUSED_HALVES = {
    "another gelu": (attribute("QuickGelu", "alpha", 1.702), "is not SiLU: its alpha"),
    "uneven": (constant("Split", 1, [90, 102]), "does not cut in halves, gate and up"),
    "three parts": (_more_parts, "does not cut in halves, gate and up"),
    "rows": (attribute("Split", "axis", 1), "does not cut along the last axis"),
}


@pytest.mark.parametrize("is_fused", [False, True])
def test_gate_and_up_are_two_products_or_halves_of_one(tmp_path: Path, *, is_fused: bool) -> None:
    layer = find_decoder(tmp_path, TinyGenai(is_fused=is_fused)).layers[0]

    assert [weight.rows for weight in layer.gate_up] == ([192] if is_fused else [96, 96])


def test_halves_may_be_stated(tmp_path: Path) -> None:
    tiny = TinyGenai(is_fused=True, edit=constant("Split", 1, [96, 96]))

    assert len(find_decoder(tmp_path, tiny).layers[0].gate_up) == 1


@pytest.mark.parametrize("case", REFUSED)
def test_another_gate_is_refused(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))


@pytest.mark.parametrize("case", REFUSED_HALVES)
def test_what_does_not_cut_in_halves_is_refused(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED_HALVES[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(is_fused=True, edit=edit))
