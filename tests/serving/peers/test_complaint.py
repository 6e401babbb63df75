"""Whatever shape a server gives its errors, its words are found, or none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.serving.peers.complaint import complaint


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "server busy, please try again."}', "server busy, please try again."),
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"error": {"message": null, "type": "BadRequestError"}}', "BadRequestError"),
        (b'{"error": {"code": 500}}', "500"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"object": "error", "message": "no such model"}', "no such model"),
        (b'{"error": null, "detail": "x"}', "x"),
        (b'{"error": "line\\nof\\u0000text"}', "line of text"),
        (b'{"error": [1, 2]}', ""),
        (b"[]", ""),
        (b"", ""),
        (b"<html>502</html>", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_words(body: bytes, words: str) -> None:
    assert complaint(body) == words


@settings(deadline=None)
@given(st.binary())
def test_nothing_is_too_strange(body: bytes) -> None:
    assert complaint(body).isprintable()
