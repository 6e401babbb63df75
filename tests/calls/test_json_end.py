"""A value ends where the parser says it does, in whatever pieces it comes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.calls.json_end import JsonEnd

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    value=st.dictionaries(st.text(), JSON) | st.text() | st.lists(JSON),
    before=st.text(max_size=3),
    after=st.text(max_size=5),
    is_ascii=st.booleans(),
)
def test_the_end_is_found_in_any_pieces(
    value: object, before: str, after: str, is_ascii: bool
) -> None:
    text = before + json.dumps(value, ensure_ascii=is_ascii)
    whole = JsonEnd(len(before))
    in_pieces = JsonEnd(len(before))

    assert whole.find(text + after) == len(text)
    assert [in_pieces.find(text[:end]) for end in range(len(before), len(text))] == [None] * (
        len(text) - len(before)
    )
    assert in_pieces.find(text) == len(text)
