"""The end of a text that may be a beginning: as found by trying every length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.calls.overlap import overlap


@pytest.mark.parametrize(
    ("text", "sought", "length"),
    [("abc<", "<end>", 1), ("abc<en", "<end>", 3), ("<end>", "<end>", 0), ("aa", "aab", 2)],
)
def test_only_a_proper_beginning_counts(text: str, sought: str, length: int) -> None:
    assert overlap(text, sought) == length


@given(st.text("ab", max_size=6), st.text("ab", min_size=1, max_size=6))
def test_no_longer_end_would_do(text: str, sought: str) -> None:
    fitting = [n for n in range(len(sought)) if text.endswith(sought[:n])]
    assert overlap(text, sought) == max(fitting)
