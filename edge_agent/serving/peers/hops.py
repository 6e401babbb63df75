"""What one edge_agent tells another in headers, so that a request neither circles nor strays."""

from __future__ import annotations

from edge_agent.errors import Forbidden, InvalidRequest
from edge_agent.messages import Policy, Request

HOPS_HEADER = "X-Edge-Hops"
POLICY_HEADER = "X-Edge-Policy"
# One gateway may ask another; that one answers itself or asks a server that is no gateway.
MOST_HOPS = 1
_STRICTEST_FIRST = (Policy.LOCAL, Policy.SITE, Policy.ANY)


def read_hops(header: str | None) -> int:
    """Return how many edge_agents a request came through.

    Raises:
        InvalidRequest: the header is not a small number.
    """
    if header is None:
        return 0
    if not (header.isascii() and header.isdecimal() and len(header) <= 2):  # noqa: PLR2004  # digits
        problem = "must be a number of edge_agents"
        raise InvalidRequest(problem, HOPS_HEADER)
    return int(header)


def read_policy(header: str | None) -> Policy | None:
    """Return the policy under which another gateway asks; None if it names none.

    Raises:
        InvalidRequest: the header is none of the policies.
    """
    if header is None:
        return None
    if header not in list(Policy):
        problem = f"must be one of {', '.join(Policy)}"
        raise InvalidRequest(problem, POLICY_HEADER)
    return Policy(header)


def stricter(one: Policy | None, other: Policy | None) -> Policy | None:
    """Return the policy that lets a prompt travel less far; None says nothing."""
    named = [policy for policy in (one, other) if policy is not None]
    return min(named, key=_STRICTEST_FIRST.index, default=None)


def refuse_loop(request: Request) -> None:
    """Refuse a request that gateways pass around.

    Raises:
        Forbidden: it has come through too many.
    """
    if request.hops > MOST_HOPS:
        problem = f"came through {request.hops} edge_agents, the limit is {MOST_HOPS}"
        raise Forbidden(problem)
