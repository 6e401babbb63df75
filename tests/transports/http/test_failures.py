"""Errors on HTTP: each has a status, and says whether a retry can help."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.errors import (
    Conflict,
    DeadlineExceeded,
    EdgeError,
    Internal,
    InvalidRequest,
    Loading,
    Overloaded,
    Unauthorized,
)
from edge_agent.messages import Failed
from edge_agent.transports.http.failures import STATUS, failure, headers_of, status_of


def family(error: type[EdgeError]) -> set[type[EdgeError]]:
    return {error}.union(*map(family, error.__subclasses__()))


def test_every_error_has_a_status() -> None:
    codes = {error.code for error in family(EdgeError) if hasattr(error, "code")}
    assert len(codes) > 15
    assert codes <= STATUS.keys()


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("x"), 400, {}),
        (Unauthorized(), 401, {"WWW-Authenticate": "Bearer"}),
        (Conflict("1"), 409, {"x-should-retry": "false"}),
        (Internal(), 500, {"x-should-retry": "false"}),
        (Overloaded("full", 3.2), 503, {"Retry-After": "4"}),
        (Overloaded("full", 0.01), 503, {"Retry-After": "1"}),
        (Loading("load", 3600), 503, {"Retry-After": "120"}),
        (DeadlineExceeded(5), 504, {"x-should-retry": "false"}),
    ],
)
def test_a_client_learns_whether_and_when_to_come_back(
    error: EdgeError, status: int, headers: dict[str, str]
) -> None:
    failed = Failed.of(error)
    assert status_of(failed) == status
    assert headers_of(failed) == headers


def test_a_refusal_says_why_nobody_took_the_request() -> None:
    failed = replace(Failed.of(Overloaded("full", 3)), reason="queue")
    assert headers_of(failed) == {"X-Edge-Reason": "queue", "Retry-After": "3"}


def test_a_code_that_nobody_mapped_is_our_bug() -> None:
    assert status_of(Failed(code="nobody knows", message="", retryable=False)) == 500


@pytest.mark.parametrize("path", ["/v1", "/v1/models"])
def test_failures_under_v1_are_openai_shaped(path: str) -> None:
    body = failure(path, Failed.of(InvalidRequest("is bad", "top_p"))).text
    assert body == (
        '{"error":{"message":"top_p: is bad","type":"invalid_request_error",'
        '"param":"top_p","code":"invalid_request"}}'
    )


@pytest.mark.parametrize("path", ["/reasoning", "/v1x", "/"])
def test_failures_elsewhere_are_plain(path: str) -> None:
    body = failure(path, Failed.of(InvalidRequest("is bad", "top_p"))).text
    assert body == '{"error":"top_p: is bad","code":"invalid_request","param":"top_p"}'
