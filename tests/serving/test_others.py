"""The peers as one backend, on a peer of flesh and blood."""

from __future__ import annotations

import time

from edge_agent.messages import Policy, fold
from edge_agent.serving.others import Others
from tests.serving.peers.double import Double
from tests.serving.peers.house import TEXT, house, request, settings


async def test_a_peer_that_can_is_counted_and_asked() -> None:
    async with Double("openai") as peer, house(settings(peer.url)) as peers:
        others = Others(peers, time.monotonic)
        asked = request(policy=Policy.SITE, deadline_s=30.0)
        assert (others.usable(asked)) == 1
        answer = fold([event async for event in others.stream(asked)])
    assert getattr(answer, "text", None) == TEXT


async def test_who_may_not_is_not_spoken_of() -> None:
    async with house(settings("http://127.0.0.1:9")) as peers:
        others = Others(peers, time.monotonic)
        local = request(policy=Policy.LOCAL)
        assert (others.usable(local), others.problem(local)) == (0, None)


async def test_a_peer_that_cannot_is_named() -> None:
    async with house(settings("http://127.0.0.1:9", zone="cloud")) as peers:
        others = Others(peers, time.monotonic)
        asked = request(policy=Policy.SITE)
        assert others.usable(asked) == 0
        assert "attic" in (others.problem(asked) or "")


async def test_without_peers_there_is_nobody_to_speak_of() -> None:
    async with house() as peers:
        assert Others(peers, time.monotonic).problem(request(policy=Policy.ANY)) is None


async def test_what_can_never_be_answered_is_said_to_be() -> None:
    async with Double("openai") as peer, house(settings(peer.url)) as peers:
        others = Others(peers, time.monotonic)
        asked = request(policy=Policy.SITE, logit_bias={1: 1.0})
        assert others.refusal(asked) is None
        await peers.probe()
        assert "logit_bias" in str(others.refusal(asked))


async def test_those_that_the_policy_excludes_are_known_by_name() -> None:
    far = settings("http://127.0.0.1:9", name="far", zone="cloud")
    async with house(settings("http://127.0.0.1:9"), far) as peers:
        others = Others(peers, time.monotonic)
        site = request(policy=Policy.SITE)
        assert others.barred(site) == "far is in zone cloud, and the policy is 'site'"
        assert others.barred(request(policy=Policy.ANY)) == ""
        assert others.barred(request(policy=Policy.LOCAL)) == ""
        assert others.barred(request(policy=Policy.SITE, logit_bias={1: 1.0})) == ""
