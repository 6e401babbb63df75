"""Where a request comes from and who answers it: the headers between gateways and to clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from edge_agent.serving.peers.hops import (
    HOPS_HEADER,
    POLICY_HEADER,
    read_hops,
    read_policy,
    stricter,
)
from edge_agent.transports.http.app import KEYS, REASON, SERVED_BY
from edge_agent.transports.http.auth import key_name

if TYPE_CHECKING:
    from aiohttp import web

    from edge_agent.messages import Accepted, Answer, Request


def as_sent(http: web.Request, request: Request) -> Request:
    """Return `request` with what is known of its way here, and of how far it may go.

    Raises:
        InvalidRequest: a header is malformed; `param` names it.
    """
    policy = read_policy(http.headers.get(POLICY_HEADER))
    return replace(
        request,
        hops=read_hops(http.headers.get(HOPS_HEADER)),
        policy=stricter(request.policy, policy),
        client=_client(http),
    )


def _client(http: web.Request) -> str:
    """Return whom the request counts for: its key where keys are set, else its address."""
    if http.app[KEYS] is not None:
        return f"key {key_name(http.headers.get('Authorization'))}"
    return http.remote or ""


def note(http: web.Request, source: Accepted | Answer) -> None:
    """Have the answer to `http` say who gives it, and why that one."""
    http[SERVED_BY] = source.served_by
    http[REASON] = source.reason
