"""Lengths and tables come from the attention mask in the one known way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from edge_agent.errors import ModelError
from tests.importers.bent_genai import constant, input_of, other_op
from tests.importers.tiny_genai import (
    CONTEXT,
    ORIGINAL_CONTEXT,
    PAIRS,
    TinyGenai,
    find_decoder,
    node,
    set_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_short_and_long_tables_are_told_apart_by_the_limit(tmp_path: Path) -> None:
    rope = find_decoder(tmp_path, TinyGenai()).rope

    assert rope.long is not None
    assert rope.long.cos.shape == rope.long.sin.shape == (CONTEXT, PAIRS)
    assert rope.short.cos.shape == (ORIGINAL_CONTEXT, PAIRS)
    assert rope.threshold == ORIGINAL_CONTEXT


def test_one_pair_of_tables_is_for_all_lengths(tmp_path: Path) -> None:
    rope = find_decoder(tmp_path, TinyGenai(is_long=False)).rope

    assert (rope.long, rope.threshold) == (None, 0)
    assert rope.short.sin.shape == (CONTEXT, PAIRS)


def _cast(index: int) -> Callable[[ModelProto], None]:
    return lambda model: set_attribute(node(model, "Cast", index), "to", TensorProto.INT64)


def _branch(
    rows: int, pairs: int, kind: type[np.generic] = np.float32
) -> Callable[[ModelProto], None]:
    """Return what makes the sines of long requests others."""

    def edit(model: ModelProto) -> None:
        choice = node(model, "If")
        [branch] = [one.g for one in choice.attribute if one.name == "then_branch"]
        table = numpy_helper.from_array(np.zeros((rows, pairs), kind), "long sin")
        branch.node[1].attribute[0].t.CopyFrom(table)

    return edit


def _less(model: ModelProto) -> None:
    choice = node(model, "If")
    del choice.attribute[0]


def _swapped(model: ModelProto) -> None:
    choice = node(model, "If")
    choice.output[0], choice.output[1] = "sin", "cos"


def _one_more(model: ModelProto) -> None:
    for one in node(model, "If").attribute:
        one.g.output.append(one.g.output[0])


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (_cast(0), "Cast '/last': casts to something else than int32"),
        (_cast(1), "Cast '/total': casts to something else than int32"),
        (_branch(CONTEXT, PAIRS + 1), r"rotary tables of \[128, 8\] and \[128, 9\]"),
        (_branch(0, 0), r"rotary tables of \[128, 8\] and \[0, 0\]"),
        (_branch(CONTEXT, PAIRS, np.int32), "rotary tables of"),
        (_less, "If '/cos': has no else_branch"),
        (_swapped, "not cosines and sines"),
        (_one_more, "3 rotary tables"),
    ],
)
def test_other_ways_are_refused(
    tmp_path: Path, edit: Callable[[ModelProto], None], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))


REFUSED = {
    "a mask of its own": (input_of("ReduceSum", 0, "ids"), "adds 'ids', not 'mask'"),
    "another length": (input_of("Shape", 0, "ids"), "is not the length of 'mask'"),
    "another dimension": (constant("Gather", 1, 0), r"input 1 is \[0\], expected \[1\]"),
    "two less": (constant("Sub", 1, [2]), r"Sub '/less one': input 1 is \[2\], expected \[1\]"),
    "another comparison": (other_op("Greater", "Less"), "Less '/longer': stands where"),
    "no limit": (input_of("Greater", 1, "ids"), "value 'ids' is no result"),
    "a limit of none": (constant("Greater", 1, 0), r"compares with \[0\], not with a length"),
    "two limits": (constant("Greater", 1, [8, 9]), r"compares with \[8, 9\], not with a length"),
    "a long limit": (constant("Greater", 1, [1] * 17), "not the few integers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_lengths_that_are_derived_in_another_way_are_refused(tmp_path: Path, case: str) -> None:
    edit, problem = REFUSED[case]

    with pytest.raises(ModelError, match=problem):
        find_decoder(tmp_path, TinyGenai(edit=edit))
