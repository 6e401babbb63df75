"""Whatever shape a server gives its errors, its words are found, or none."""

from __future__ import annotations

import json

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
    assert complaint(body).words == words


@settings(deadline=None)
@given(st.binary())
def test_nothing_is_too_strange(body: bytes) -> None:
    assert complaint(body).words.isprintable()


# As the servers write it; the first of Ollama is what its versions from 0.34 on pass on.
INNER = (
    '{"error":{"code":400,"message":"request (931 tokens) exceeds the available context size '
    '(512 tokens), try increasing it","type":"exceed_context_size_error"}}'
)
TOO_LONG = {
    "ollama 0.40": json.dumps({"error": INNER}),
    "ollama 0.12": '{"error":"the input length exceeds the context length"}',
    "llama.cpp": INNER,
    "vllm": json.dumps(
        {
            "error": {
                "message": "This model's maximum context length is 2048 tokens. However, your "
                "prompt contains at least 2049 input tokens, …",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        }
    ),
    "edge_agent": '{"error":{"message":"prompt is 9 tokens, the limit is 8",'
    '"type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}',
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_prompt_that_is_too_long_is_known_as_such(server: str) -> None:
    said = complaint(TOO_LONG[server].encode())
    assert said.is_too_long
    assert said.words
    assert not said.words.startswith("{")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": "server busy, please try again."}',
        b'{"error": {"message": "temperature must be non-negative", "code": 400}}',
        b'{"error": "illegal base64 data at input byte 0"}',
        b'{"error": "{\\"error\\":{\\"code\\":400,\\"message\\":\\"no images\\"}}"}',
        b"the context length is too short",
    ],
)
def test_other_complaints_are_none_of_length(body: bytes) -> None:
    assert not complaint(body).is_too_long


def test_errors_inside_of_errors_are_read_to_some_depth() -> None:
    said = "too deep"
    for _ in range(9):
        said = json.dumps({"error": said})
    assert complaint(said.encode()).words.startswith("{")
