"""Each status means one thing for the peer, for the request and for the client."""

from __future__ import annotations

import pytest

from edge_agent.errors import PeerFailed, PeerRefused, TooLongForPeer
from edge_agent.serving.peers.trouble import Kind, by_status

TOOLS_OFF = (
    b'{"error": {"message": "\\"auto\\" tool choice requires --enable-auto-tool-choice and '
    b'--tool-call-parser to be set", "code": 400}}'
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, Kind.WRONG),
        (302, Kind.WRONG),
        (400, Kind.REFUSED),
        (401, Kind.WRONG),
        (403, Kind.WRONG),
        (404, Kind.WRONG),
        (405, Kind.WRONG),
        (408, Kind.REFUSED),
        (413, Kind.REFUSED),
        (422, Kind.REFUSED),
        (429, Kind.BUSY),
        (500, Kind.WRONG),
        (502, Kind.WRONG),
        (503, Kind.BUSY),
        (504, Kind.WRONG),
        (999, Kind.WRONG),
    ],
)
def test_kinds(status: int, kind: Kind) -> None:
    trouble = by_status("attic", status, b"", None)
    assert trouble.kind is kind
    refused = kind is Kind.REFUSED
    assert isinstance(trouble.error, PeerRefused if refused else PeerFailed)
    assert trouble.error.retryable is not refused


def test_a_server_that_names_a_time_is_busy() -> None:
    for status in (408, 429, 503):
        trouble = by_status("attic", status, b"", 3.0)
        assert trouble.kind is Kind.BUSY
        assert trouble.error.retry_after_s == 3.0


def test_the_words_of_the_peer_reach_the_client_and_not_the_log() -> None:
    trouble = by_status("attic", 400, b'{"error": "your prompt: SECRET"}', None)
    assert str(trouble) == "peer 'attic' answers with status 400: your prompt: SECRET"
    assert trouble.cause == "status 400"


@pytest.mark.parametrize("body", [TOOLS_OFF, b'{"error": "\\"phi\\" does not support tools"}'])
def test_tools_that_are_switched_off_are_not_the_request_s_fault(body: bytes) -> None:
    trouble = by_status("attic", 400, body, None)
    assert trouble.kind is Kind.UNFIT
    assert str(trouble) == "peer 'attic' takes no tools"


@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_prompt_that_does_not_fit_there_may_fit_elsewhere(status: int) -> None:
    body = b'{"error": "the input length exceeds the context length"}'
    trouble = by_status("attic", status, body, None)
    assert trouble.kind is Kind.UNFIT
    assert isinstance(trouble.error, TooLongForPeer)
    assert (trouble.error.code, trouble.error.retryable) == ("context_length_exceeded", False)
    assert "exceeds the context length" in str(trouble)
