"""What a stranger wrote is known as such, however a template carries it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.text.marks import Marks

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.text(alphabet="ab<>/1"), st.booleans())))
def test_marked_text_comes_out_as_it_went_in(parts: list[tuple[str, bool]]) -> None:
    marks = Marks()
    rendered = "".join(marks.text(text) if is_foreign else text for text, is_foreign in parts)
    pieces = list(marks.split(rendered))

    assert "".join(text for text, _ in pieces) == "".join(text for text, _ in parts)
    assert [text for text, is_foreign in pieces if is_foreign] == [
        text for text, is_foreign in parts if is_foreign and text
    ]


@given(JSON)
def test_json_is_marked_as_a_whole_marked_inside_or_not(value: object) -> None:
    marks = Marks()
    expected = json.dumps(value, ensure_ascii=False)

    assert list(marks.split(marks.json(value))) == [("", False), (expected, True), ("", False)]
    assert marks.json(marks.tree(value)) == marks.json(value)


def test_every_string_of_a_tree_is_marked_but_schemas_own_words() -> None:
    marks = Marks()

    assert marks.tree({"type": "object", "properties": {"x": ["y", 1, None, ""]}}) == {
        "type": "object",
        "properties": {marks.text("x"): [marks.text("y"), 1, None, ""]},
    }


def test_trim_reaches_into_marks() -> None:
    marks = Marks()

    assert marks.trim(marks.text(" a\n")) == marks.text("a")
    assert marks.trim(" a ") == "a"
    assert marks.trim(f" {marks.text(' a ')}") == marks.text(" a ")


@pytest.mark.parametrize("cut", [slice(1, None), slice(0, -1)])
def test_a_mark_that_was_cut_is_noticed(cut: slice) -> None:
    marks = Marks()

    with pytest.raises(ModelError, match="cuts or nests"):
        list(marks.split(marks.text("secret")[cut]))


def test_a_mark_inside_a_mark_is_noticed() -> None:
    marks = Marks()

    with pytest.raises(ModelError, match="cuts or nests"):
        list(marks.split(marks.text(f"a{marks.text('b')}c")))
