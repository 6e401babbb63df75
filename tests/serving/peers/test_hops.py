"""What gateways tell each other in headers is read strictly."""

from __future__ import annotations

import pytest

from edge_agent.errors import Forbidden, InvalidRequest
from edge_agent.messages import Policy
from edge_agent.serving.peers.hops import read_hops, read_policy, refuse_loop, stricter
from tests.serving.peers.house import request


@pytest.mark.parametrize(("header", "hops"), [(None, 0), ("0", 0), ("1", 1), ("99", 99)])
def test_hops(header: str | None, hops: int) -> None:
    assert read_hops(header) == hops


@pytest.mark.parametrize("header", ["", "-1", "1.0", "100", "one", "²", "1 "])
def test_hops_that_are_none(header: str) -> None:
    with pytest.raises(InvalidRequest, match="X-Edge-Hops"):
        read_hops(header)


def test_a_second_gateway_is_the_last() -> None:
    refuse_loop(request(hops=0))
    refuse_loop(request(hops=1))
    with pytest.raises(Forbidden, match="came through 2 edge_agents, the limit is 1"):
        refuse_loop(request(hops=2))


def test_policies_are_read_by_name() -> None:
    assert read_policy(None) is None
    assert read_policy("site") is Policy.SITE
    with pytest.raises(InvalidRequest, match="local, site, any"):
        read_policy("world")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (None, None, None),
        (Policy.SITE, None, Policy.SITE),
        (Policy.ANY, Policy.SITE, Policy.SITE),
        (Policy.SITE, Policy.LOCAL, Policy.LOCAL),
        (Policy.ANY, Policy.ANY, Policy.ANY),
    ],
)
def test_of_two_policies_the_stricter_holds(
    one: Policy | None, other: Policy | None, both: Policy | None
) -> None:
    assert stricter(one, other) is both
    assert stricter(other, one) is both
