"""Who is asked first, who is not asked, and how the house finds out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent import config
from edge_agent.errors import ConfigError, TooLongForPeer, Unsupported
from edge_agent.messages import Answer, Message, Policy, Role, Sampling
from edge_agent.serving.peers import peers as peers_module
from edge_agent.serving.peers import probe
from edge_agent.serving.peers.breaker import OPEN_AFTER, Standing
from edge_agent.serving.peers.peers import Peers
from tests.serving.peers.double import MODEL, Double, Fault
from tests.serving.peers.house import KINDS, house, outcome, request, settings
from tests.serving.scripted import until

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def short_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe every few milliseconds."""
    monkeypatch.setattr(peers_module, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(peers_module, "FIRST_PROBE_WITHIN_S", 0.01)


def names(peers: Peers, **fields: Any) -> list[str]:
    return [peer.name for peer in peers.candidates(request(**fields))]


async def test_peers_are_asked_by_priority_then_as_they_are_written() -> None:
    async with house(
        settings(NOWHERE, name="low", priority=-1),
        settings(NOWHERE, name="one"),
        settings(NOWHERE, name="two"),
        settings(NOWHERE, name="high", priority=5),
    ) as peers:
        assert names(peers) == ["high", "one", "two", "low"]


@pytest.mark.parametrize(
    ("default", "asked", "able"),
    [
        ("site", None, ["near"]),
        ("any", None, ["near", "far"]),
        ("local", None, []),
        ("any", Policy.SITE, ["near"]),
        ("any", Policy.LOCAL, []),
        ("local", Policy.ANY, ["near", "far"]),
    ],
)
async def test_a_policy_of_the_request_goes_before_the_default(
    default: str, asked: Policy | None, able: list[str]
) -> None:
    near, far = settings(NOWHERE, name="near"), settings(NOWHERE, name="far", zone="cloud")
    async with house(near, far, policy=default) as peers:
        assert names(peers, policy=asked) == able


async def test_why_nobody_is_asked_is_said_of_each() -> None:
    async with house(
        settings(NOWHERE, name="far", zone="cloud"), settings(NOWHERE, name="near")
    ) as peers:
        why = peers.why_not(request(sampling=Sampling(top_k=3)))
    assert why == (
        "far is in zone cloud, and the policy is 'site'; near is not known to take top_k"
    )


async def test_a_peer_that_a_probe_recognized_gets_more() -> None:
    async with Double("openai") as double, house(settings(double.url)) as peers:
        asked = request(sampling=Sampling(top_k=3))
        assert peers.candidates(asked) == ()
        await peers.probe()
        assert isinstance(await outcome(peers, asked), Answer)
        assert double.bodies[0]["top_k"] == 3


async def test_who_probes_do_not_reach_is_asked_last() -> None:
    async with (
        Double("openai") as double,
        house(
            settings(NOWHERE, name="dead", priority=9), settings(double.url, name="alive")
        ) as peers,
    ):
        assert names(peers) == ["dead", "alive"]
        await peers.probe()
        assert names(peers) == ["alive", "dead"]
        assert peers.states()[0].problem == "cannot be reached: connection refused"


async def test_a_peer_gets_no_more_requests_than_it_may_have() -> None:
    async with Double("openai") as double:
        double.fault = Fault(freeze_after=3)
        async with house(settings(double.url, max_concurrent=2)) as peers:
            asking = [asyncio.create_task(outcome(peers, request(id=f"r{n}"))) for n in range(2)]
            await until(lambda: len(double.bodies) == 2)
            assert peers.candidates(request()) == ()
            assert peers.why_not(request()) == "attic has 2 requests, the limit"
            assert peers.states()[0].running == 2
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            assert names(peers) == ["attic"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("short_watch")
async def test_a_dead_peer_is_left_alone_and_back_soon_after(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        watching = asyncio.create_task(peers.run())
        await double.down()
        await until(lambda: peers.states()[0].breaker is Standing.OPEN)
        assert peers.candidates(request()) == ()
        await double.up()
        await until(lambda: peers.states()[0].breaker is Standing.CLOSED)
        assert isinstance(await outcome(peers), Answer)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_half_open_peer_gets_one_request_at_a_time() -> None:
    now_s = 0.0
    async with Double("openai") as double:
        double.fault = Fault(status=500)
        async with house(settings(double.url), clock=lambda: now_s) as peers:
            for _ in range(OPEN_AFTER):
                await outcome(peers)
            assert peers.states()[0].breaker is Standing.OPEN
            assert peers.why_not(request()) == "attic fails (last: status 500)"
            now_s = 31.0
            double.fault = Fault(freeze_after=3)
            trial = asyncio.create_task(outcome(peers))
            await until(lambda: len(double.bodies) == OPEN_AFTER + 1)
            assert peers.why_not(request()) == "attic is being tried"
            trial.cancel()
            await asyncio.gather(trial, return_exceptions=True)
            double.fault = Fault()
            assert isinstance(await outcome(peers), Answer)
            assert peers.states()[0].breaker is Standing.CLOSED
            assert peers.states()[0].problem is None


@pytest.mark.usefixtures("short_watch")
async def test_a_cloud_peer_hears_of_us_when_a_prompt_may_reach_it() -> None:
    async with Double("openai") as double, house(settings(double.url, zone="cloud")) as peers:
        watching = asyncio.create_task(peers.run())
        for policy in (None, Policy.SITE, Policy.LOCAL):
            assert peers.candidates(request(policy=policy)) == ()
        await asyncio.sleep(0.1)
        assert not double.received
        assert names(peers, policy=Policy.ANY) == ["attic"]
        await until(lambda: bool(double.probed))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.usefixtures("short_watch")
async def test_a_bug_in_a_probe_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Double("openai") as double, house(settings(double.url)) as peers:
        calls = 0
        honest = peers._peers[0].probe

        async def probe(policy: Policy) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise RuntimeError
            await honest(policy)

        monkeypatch.setattr(peers._peers[0], "probe", probe)
        watching = asyncio.create_task(peers.run())
        await until(lambda: bool(double.probed))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_key_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n# rotated in May\n")
    async with Double("openai") as double:
        peer = settings(double.url, api_key_file=str(tmp_path / "key"))
        async with house(peer) as peers:
            await outcome(peers)
            assert double.headers[0]["authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("text", ["", "\n", "two words", "ключ", "a\x00b"])
def test_a_file_without_a_key_is_no_key_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    peer = settings(NOWHERE, api_key_file=str(tmp_path / "key"))
    with pytest.raises(ConfigError, match=r"peers.attic.api_key_file"):
        Peers([peer], config.Routing())


def test_a_key_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    peer = settings(NOWHERE, api_key_file=str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="No such file"):
        Peers([peer], config.Routing())


def test_a_peer_that_is_back_is_known_within_half_a_minute() -> None:
    longest_s = peers_module.PROBE_EVERY_S * (1 + peers_module.PROBE_SPREAD) + probe.LIMIT_S
    assert longest_s <= 30
    assert peers_module.PROBE_EVERY_S >= 10


SHORT = {"max_model_len": 1024}
LONG = Message(role=Role.USER, content="word " * 700)
ENDLESS = Message(role=Role.USER, content="word " * 9000)


def cards(**facts: object) -> dict[str, object]:
    return {"data": [{"id": MODEL, "owned_by": "vllm", **facts}]}


async def test_what_cannot_fit_is_not_sent_and_what_may_not_is_sent_last() -> None:
    async with Double("openai") as small, Double("openai") as large:
        small.tells["/v1/models"] = cards(**SHORT)
        large.tells["/v1/models"] = cards(max_model_len=32768)
        async with house(
            settings(small.url, name="small", priority=9), settings(large.url, name="large")
        ) as peers:
            await peers.probe()
            assert names(peers) == ["small", "large"]
            assert names(peers, messages=(LONG,)) == ["large", "small"]
            assert names(peers, messages=(ENDLESS,)) == ["large"]
            assert peers.why_not(request(messages=(ENDLESS,))) == (
                "small has a context of 1024 tokens, and the prompt takes at least 2250, "
                "and 100 for the answer"
            )
            assert peers.states()[0].context_tokens == 1024


async def test_of_equals_the_one_with_less_to_do_is_asked_first() -> None:
    async with Double("openai") as busy, Double("openai") as idle:
        busy.tells["/metrics"] = b'vllm:num_requests_running{engine="0"} 2.0\n'
        idle.tells["/metrics"] = b'vllm:num_requests_running{engine="0"} 1.0\n'
        async with house(settings(busy.url, name="busy"), settings(idle.url, name="idle")) as peers:
            assert names(peers) == ["busy", "idle"]
            await peers.probe()
            assert names(peers) == ["idle", "busy"]
            assert [state.open_requests for state in peers.states()] == [2, 1]


async def test_our_own_requests_are_not_counted_twice() -> None:
    async with Double("openai") as one, Double("openai") as other:
        one.tells["/metrics"] = b'vllm:num_requests_running{engine="0"} 2.0\n'
        other.tells["/metrics"] = b'vllm:num_requests_running{engine="0"} 1.0\n'
        one.fault = Fault(freeze_after=3)
        async with house(settings(one.url, name="one"), settings(other.url, name="other")) as peers:
            asking = asyncio.create_task(outcome(peers))
            await until(lambda: len(one.bodies) == 1)
            await peers.probe()  # one of the two that `one` works on is ours
            assert names(peers) == ["other", "one"]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert names(peers) == ["one", "other"]


async def test_a_model_that_has_to_be_loaded_first_comes_after_one_that_is_there() -> None:
    async with Double("ollama") as cold, Double("ollama") as warm:
        cold.tells["/api/ps"] = {"models": []}
        warm.tells["/api/ps"] = {"models": [{"name": MODEL, "context_length": 4096}]}
        async with house(
            settings(cold.url, "ollama", name="cold"), settings(warm.url, "ollama", name="warm")
        ) as peers:
            assert names(peers) == ["cold", "warm"]  # who knows
            await peers.probe()
            assert names(peers) == ["warm", "cold"]


async def test_what_no_peer_will_ever_answer_is_refused_for_good() -> None:
    async with Double("openai") as small:
        small.tells["/v1/models"] = cards(**SHORT)
        async with house(settings(small.url)) as peers:
            endless, biased = request(messages=(ENDLESS,)), request(logit_bias={1: 1.0})
            assert peers.refusal(endless) is None  # it has not told yet
            await peers.probe()
            too_long, unsupported = peers.refusal(endless), peers.refusal(biased)
            assert isinstance(too_long, TooLongForPeer)
            assert "has a context of 1024 tokens" in str(too_long)
            assert isinstance(unsupported, Unsupported)
            assert str(unsupported) == "peer 'attic' may have other tokens (logit_bias)"
            assert peers.refusal(request()) is None
            assert peers.refusal(request(policy=Policy.LOCAL, messages=(ENDLESS,))) is None


async def test_what_a_peer_that_is_away_could_answer_is_not_refused_for_good() -> None:
    async with Double("openai") as small:
        small.tells["/v1/models"] = cards(**SHORT)
        async with house(settings(small.url), settings(NOWHERE, name="away")) as peers:
            await peers.probe()
            assert peers.refusal(request(messages=(ENDLESS,))) is None
