"""The next peer takes over until something was said; then nobody does."""

from __future__ import annotations

import time

import pytest

from edge_agent.messages import Accepted, Answer, Delta, Failed
from edge_agent.serving.peers.breaker import OPEN_AFTER, Standing
from tests.serving.peers.double import Double, Fault
from tests.serving.peers.house import KINDS, TEXT, events, house, outcome, request, settings

BEFORE = {
    "dead": Fault(die_after=0),
    "dead after its head": Fault(die_after=1),  # the first piece of vLLM says nothing
    "500": Fault(status=500),
    "503": Fault(status=503),
    "no tools": Fault(status=400, body=b'{"error": "\\"auto\\" tool choice requires x"}'),
    "wrong key": Fault(status=401),
    "HTML": Fault(body=b"<html>", media_type="text/html"),
    "frozen": Fault(freeze_after=0),
}


@pytest.mark.parametrize("name", BEFORE)
async def test_before_the_first_token_the_next_one_answers(name: str) -> None:
    async with Double("openai") as first, Double("ollama") as second:
        first.fault = BEFORE[name]
        async with house(
            settings(first.url, priority=1, first_byte_timeout_s=0.2),
            settings(second.url, "ollama", name="rack"),
        ) as peers:
            answer = await outcome(peers)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.served_by) == (TEXT, "rack")


@pytest.mark.parametrize("fault", [Fault(die_after=2), Fault(freeze_after=2)])
async def test_after_the_first_token_nobody_takes_over(fault: Fault) -> None:
    async with Double("openai") as first, Double("openai") as second:
        first.fault = fault
        async with house(
            settings(first.url, priority=1, idle_timeout_s=0.2),
            settings(second.url, name="rack"),
        ) as peers:
            told = await events(peers, request())
        assert not second.bodies
    accepted, delta, failed = told
    assert accepted == Accepted(prompt_tokens=None, served_by="attic")
    assert delta == Delta("The ")
    assert isinstance(failed, Failed)
    assert failed.retryable


async def test_a_request_that_is_wrong_by_one_account_is_not_tried_on_others() -> None:
    async with Double("openai") as first, Double("openai") as second:
        first.fault = Fault(status=422)
        async with house(
            settings(first.url, priority=1), settings(second.url, name="rack")
        ) as peers:
            last = await outcome(peers)
        assert not second.bodies
    assert isinstance(last, Failed)
    assert last.code == "peer_refused"


async def test_peers_that_cannot_be_reached_cost_no_tries() -> None:
    async with Double("openai") as gone:
        pass
    dead = [settings(gone.url, name=f"dead{number}", priority=1) for number in range(9)]
    async with Double("openai") as second, house(*dead, settings(second.url)) as peers:
        for _ in range(OPEN_AFTER + 2):
            answer = await outcome(peers)
            assert isinstance(answer, Answer)
        states = peers.states()
    assert {state.breaker for state in states[:-1]} == {Standing.OPEN}
    assert states[0].problem == "cannot be reached: connection refused"


async def test_three_that_fail_are_enough() -> None:
    async with Double("openai") as sick:
        sick.fault = Fault(status=500)
        many = [settings(sick.url, name=f"p{number}") for number in range(9)]
        async with house(*many) as peers:
            last = await outcome(peers)
        assert len(sick.bodies) == 3
    assert isinstance(last, Failed)
    assert (last.code, last.retry_after_s) == ("unavailable", 5)
    for number in range(3):
        assert f"peer 'p{number}' answers with status 500" in last.message


async def test_a_storm_of_503_makes_a_tenth_more_calls() -> None:
    """Each peer says that it is busy for no time at all, so that nothing but the budget holds."""
    async with Double("openai") as busy:
        busy.fault = Fault(status=503, headers={"Retry-After": "0"})
        many = [settings(busy.url, name=f"p{number}") for number in range(5)]
        async with house(*many) as peers:
            for _ in range(100):
                assert isinstance(await outcome(peers), Failed)
        assert 100 < len(busy.bodies) <= 110


async def test_a_busy_peer_is_left_alone() -> None:
    async with Double("openai") as busy, house(settings(busy.url)) as peers:
        busy.fault = Fault(status=503)
        assert isinstance(await outcome(peers), Failed)
        assert peers.candidates(request()) == ()
        assert peers.why_not(request()) == "attic is busy"
        assert peers.states()[0].breaker is Standing.RESTING


async def test_the_only_peer_is_waited_for_if_it_says_how_long() -> None:
    async with Double("openai") as busy, house(settings(busy.url)) as peers:
        answers = iter([Fault(status=429, headers={"Retry-After": "1"}), Fault()])
        busy.faults = lambda _: next(answers)
        began_s = time.monotonic()
        answer = await outcome(peers)
        assert time.monotonic() - began_s >= 0.99
    assert isinstance(answer, Answer)


@pytest.mark.parametrize(("asked", "limit_s"), [("60", None), ("2", 1.0)])
async def test_nobody_is_waited_for_too_long(asked: str, limit_s: float | None) -> None:
    async with Double("openai") as busy, house(settings(busy.url)) as peers:
        busy.fault = Fault(status=429, headers={"Retry-After": asked})
        last = await outcome(peers, limit_s=limit_s)
        assert len(busy.bodies) == 1
    assert isinstance(last, Failed)
    assert last.retry_after_s == float(asked)


async def test_nobody_to_ask_is_said() -> None:
    async with house() as peers:
        last = await outcome(peers)
        assert peers.why_not(request()) == "there is no peer"
    assert last == Failed(
        code="unavailable",
        message="no peer can be asked now; retry in 5 s",
        retryable=True,
        retry_after_s=5,
    )


async def test_a_deadline_is_not_outlived_by_trying_others() -> None:
    async with Double("openai") as frozen:
        frozen.fault = Fault(freeze_after=0)
        many = [settings(frozen.url, name=f"p{number}") for number in range(3)]
        async with house(*many) as peers:
            last = await outcome(peers, request(deadline_s=0.2), limit_s=0.2)
        assert len(frozen.bodies) <= 1
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"


TOO_LONG = Fault(status=400, body=b'{"error": "the input length exceeds the context length"}')


@pytest.mark.parametrize("kind", KINDS)
async def test_who_has_too_little_context_is_passed_over(kind: str) -> None:
    async with Double(kind) as first, Double("openai") as second:
        first.fault = TOO_LONG
        async with house(
            settings(first.url, kind, priority=1), settings(second.url, name="rack")
        ) as peers:
            answer = await outcome(peers)
            assert peers.states()[0].problem is None  # it is as good as before
    assert isinstance(answer, Answer)
    assert answer.served_by == "rack"


async def test_a_prompt_too_long_for_all_is_the_caller_s() -> None:
    async with Double("openai") as one, Double("ollama") as other:
        one.fault = other.fault = TOO_LONG
        async with house(settings(one.url), settings(other.url, "ollama", name="rack")) as peers:
            last = await outcome(peers)
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("context_length_exceeded", False)
    assert last.param == "messages"
