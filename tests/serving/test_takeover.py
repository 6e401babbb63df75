"""Who takes over from whom, and when nobody may any more: the rule of one answer."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import (
    EngineCrashed,
    InvalidRequest,
    Loading,
    Overloaded,
    PeerFailed,
    PeerRefused,
    Pressure,
    PromptTooLong,
    Recalled,
    TooLongForPeer,
)
from edge_agent.guard.reading import Level
from edge_agent.messages import Accepted, Delta, Failed, Policy, ToolCall
from edge_agent.ops.health import State
from tests.serving.house import (
    ACCEPTED,
    CALM,
    DONE,
    HERE,
    RULES,
    ScriptedBackend,
    ScriptedPeers,
    Site,
    answer_of,
    codes,
    request,
    until,
)

if TYPE_CHECKING:
    from edge_agent.errors import EdgeError
    from edge_agent.messages import Event
    from edge_agent.serving.admission import Fallback, House

CRASHED = Failed.of(EngineCrashed("signal 9"))
RECALLED = Failed.of(Recalled("memory is soft", 30))
SQUEEZED = Failed.of(Pressure("memory is hard", 30))
PEER_AWAY = Failed.of(PeerFailed("attic", "refuses the connection"))
CALL = ToolCall(id="c", name="look", arguments="{}")
THERE = answer_of("attic", "x", "y")
TIGHT = replace(CALM, level=Level.SOFT)
CRITICAL = replace(CALM, level=Level.CRITICAL)
RELAY = replace(CALM, state=State.RELAY)


def from_attic(reason: str) -> list[Event]:
    return [Accepted(prompt_tokens=None, served_by="attic", reason=reason), *THERE[1:]]


@pytest.mark.parametrize(
    ("house", "reason"),
    [
        (TIGHT, "pressure"),
        (CRITICAL, "pressure"),
        (RELAY, "no-local-model"),
        (replace(CALM, state=State.FAILED), "no-local-model"),
        (replace(CALM, state=State.LOADING), "loading"),
        (replace(CALM, state=State.UNLOADED), "unloaded"),
        (replace(CALM, state=State.RESTARTING), "crashed"),
    ],
)
async def test_a_peer_answers_where_the_engine_cannot_begin(house: House, reason: str) -> None:
    site = Site(ScriptedBackend(ACCEPTED, DONE), ScriptedPeers(*THERE), house=house)
    assert await site.ask() == from_attic(reason)
    assert not site.engine.asked
    [story] = site.notes.stories
    assert (story.served_by, story.reason, story.outcome) == ("attic", reason, "stop")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineCrashed("signal 9"), "crashed"),
        (Pressure("memory is hard", 30), "pressure"),
        (Loading("starting", 5), "loading"),
        (Overloaded("full", 1), "queue"),
    ],
)
@pytest.mark.parametrize("was_accepted", [False, True])
async def test_a_peer_takes_over_before_the_first_word(
    error: EdgeError, reason: str, *, was_accepted: bool
) -> None:
    before = (ACCEPTED,) if was_accepted else ()
    site = Site(ScriptedBackend(*before, Failed.of(error)), ScriptedPeers(*THERE))
    told = [HERE] if was_accepted else []
    assert await site.ask() == [*told, *from_attic(reason)]
    assert site.engine.closed == site.peers.closed == 1
    assert site.ledger.here == site.ledger.there == 0


@pytest.mark.parametrize("first", [Delta("a"), CALL])
@pytest.mark.parametrize("failed", [CRASHED, SQUEEZED, RECALLED])
async def test_nobody_takes_over_after_the_first_word(first: Event, failed: Failed) -> None:
    site = Site(ScriptedBackend(ACCEPTED, first, failed), ScriptedPeers(*THERE))
    assert await site.ask() == [HERE, first, failed]
    assert not site.peers.asked
    assert failed.retryable


async def test_an_answer_that_a_peer_broke_off_is_not_continued_here() -> None:
    peers = ScriptedPeers(THERE[0], Delta("x"), PEER_AWAY)
    site = Site(ScriptedBackend(ACCEPTED, DONE), peers, house=TIGHT)
    assert codes(await site.ask()) == [None, None, "peer_failed"]
    assert not site.engine.asked


@pytest.mark.parametrize("error", [InvalidRequest("no", "messages"), PeerRefused("attic", "no")])
async def test_a_wrong_request_is_asked_of_nobody_else(error: EdgeError) -> None:
    here = Site(ScriptedBackend(Failed.of(error)), ScriptedPeers(*THERE))
    assert await here.ask() == [Failed.of(error)]
    assert not here.peers.asked
    prefers = replace(RULES, fallback="prefer-peer")
    there = Site(ScriptedBackend(ACCEPTED, DONE), ScriptedPeers(Failed.of(error)), rules=prefers)
    assert await there.ask() == [Failed.of(error)]
    assert not there.engine.asked


async def test_the_engine_answers_when_the_preferred_peer_does_not() -> None:
    rules = replace(RULES, fallback="prefer-peer")
    site = Site(ScriptedBackend(ACCEPTED, DONE), ScriptedPeers(PEER_AWAY), rules=rules)
    assert await site.ask() == [replace_reason("peer-failed"), DONE]


def replace_reason(reason: str) -> Accepted:
    return Accepted(prompt_tokens=7, reason=reason)


@pytest.mark.parametrize("house", [CRITICAL, RELAY, TIGHT])
async def test_both_down_is_unavailable_and_says_why(house: House) -> None:
    known_away = ScriptedPeers(problem="attic fails (last: connection refused)")
    found_away = ScriptedPeers(PEER_AWAY)
    for peers in (known_away, found_away):
        site = Site(ScriptedBackend(ACCEPTED, DONE), peers, house=house)
        [failed] = await site.ask()
        assert isinstance(failed, Failed)
        assert (failed.code, failed.retryable) == ("unavailable", True)
        assert "attic" in failed.message
        assert failed.retry_after_s


async def test_a_crash_and_then_no_peer_is_unavailable() -> None:
    site = Site(ScriptedBackend(ACCEPTED, CRASHED), ScriptedPeers(PEER_AWAY))
    events = await site.ask()
    assert codes(events) == [None, "unavailable"]
    assert "signal 9" in getattr(events[-1], "message", "")
    assert "attic" in getattr(events[-1], "message", "")


async def test_without_peers_the_refusal_is_what_is_wrong_here() -> None:
    assert codes(await Site(ScriptedBackend(), house=CRITICAL).ask()) == ["memory_pressure"]
    assert codes(await Site(ScriptedBackend(), house=TIGHT).ask()) == ["memory_pressure"]
    assert codes(await Site(ScriptedBackend(ACCEPTED, CRASHED)).ask()) == [None, "engine_crashed"]


async def test_who_waits_for_memory_begins_when_there_is_some() -> None:
    site = Site(ScriptedBackend(ACCEPTED, DONE), house=TIGHT, patience_s=60)
    waiting = asyncio.create_task(site.ask())
    await until(lambda: site.ledger.held == 1)
    assert not site.engine.asked
    site.house = CALM
    site.router.changed()
    assert await waiting == [HERE, DONE]
    assert site.ledger.held == 0


async def test_who_waits_for_memory_goes_to_a_peer_that_comes_back() -> None:
    peers = ScriptedPeers(*THERE)
    peers.is_usable = False
    site = Site(ScriptedBackend(ACCEPTED, DONE), peers, house=TIGHT, patience_s=60)
    waiting = asyncio.create_task(site.ask())
    await until(lambda: site.ledger.held == 1)
    peers.is_usable = True
    site.router.changed()
    assert await waiting == from_attic("pressure")


async def test_who_waits_for_memory_until_its_deadline_is_expired() -> None:
    site = Site(ScriptedBackend(ACCEPTED, DONE), house=TIGHT, patience_s=60)
    assert codes(await site.ask(request(deadline_s=0.02))) == ["expired"]


async def test_who_waits_for_memory_is_told_when_the_house_closes() -> None:
    site = Site(ScriptedBackend(ACCEPTED, DONE), house=TIGHT, patience_s=60)
    waiting = asyncio.create_task(site.ask())
    await until(lambda: site.ledger.held == 1)
    site.router.drain()
    site.router.changed()
    assert codes(await waiting) == ["draining"]


async def test_who_is_given_back_unbegun_waits_at_the_door_and_is_asked_again() -> None:
    site = Site(ScriptedBackend(ACCEPTED, RECALLED), patience_s=10)
    asked = asyncio.create_task(site.ask())
    await until(lambda: site.ledger.held == 1)
    site.engine.then(ACCEPTED, Delta("x"), DONE)
    site.router.changed()

    assert await asked == [HERE, HERE, Delta("x"), DONE]


async def test_who_is_given_back_again_and_again_is_refused_in_the_end() -> None:
    site = Site(ScriptedBackend(RECALLED), patience_s=0.05)
    assert codes(await site.ask()) == [Pressure.code]


async def test_who_is_given_back_unbegun_goes_to_a_peer_that_can() -> None:
    site = Site(ScriptedBackend(RECALLED), ScriptedPeers(*THERE), patience_s=10)
    asked = asyncio.create_task(site.ask())
    await until(lambda: site.ledger.held == 1)
    site.house = TIGHT
    site.router.changed()

    assert await asked == from_attic("pressure")


async def test_a_reader_that_leaves_a_peer_stops_it() -> None:
    peers = ScriptedPeers(THERE[0], Delta("x"), None)
    site = Site(ScriptedBackend(), peers, house=RELAY)
    async with aclosing(site.router.stream(request())) as events:
        await anext(events)
        assert site.ledger.there == 1
    assert (peers.closed, site.ledger.there) == (1, 0)


async def test_the_pace_is_that_of_the_engine_alone() -> None:
    site = Site(ScriptedBackend(), ScriptedPeers(*THERE), house=RELAY)
    await site.ask()
    assert site.router.expected_wait_s() is None


async def test_peers_get_what_is_left_of_the_time() -> None:
    clock = [100.0]
    engine = ScriptedBackend(ACCEPTED, CRASHED)
    site = Site(engine, ScriptedPeers(*THERE), clock=lambda: clock[0])
    async with aclosing(site.router.stream(request(deadline_s=10.0))) as events:
        assert await anext(events) == HERE
        clock[0] += 4.0
        assert await anext(events) == from_attic("crashed")[0]
    assert (engine.asked[0].deadline_s, site.peers.asked[0].deadline_s) == (10.0, 6.0)


async def test_a_request_in_circles_is_refused() -> None:
    site = Site(ScriptedBackend(ACCEPTED, DONE), ScriptedPeers(*THERE))
    assert codes(await site.ask(request(hops=2))) == ["forbidden"]
    assert (await site.ask(request(hops=1)))[-1] == DONE


async def test_what_never_fits_is_sent_to_nobody() -> None:
    small = replace(CALM, context_tokens=4)
    site = Site(ScriptedBackend(ACCEPTED, DONE), house=small)
    site.sizes.know(None, context_tokens=4, most_bytes=None, longest_token_bytes=2)
    events = await site.ask(request(prompt="x" * 100_000))
    assert codes(events) == ["context_length_exceeded"]
    assert "at least 50000 tokens, the limit is 3" in getattr(events[0], "message", "")
    assert not site.engine.asked
    assert site.notes.refusals == ["too-large"]


steps = st.sampled_from(
    [ACCEPTED, Delta("a"), CALL, DONE, CRASHED, SQUEEZED, PEER_AWAY, RuntimeError("bug")]
)
houses = st.builds(
    lambda state, level: replace(CALM, state=state, level=level),
    st.sampled_from([state for state in State if state is not State.DRAINING]),
    st.sampled_from(Level),
)


@given(
    here=st.lists(steps, max_size=5),
    there=st.lists(steps, max_size=5),
    house=houses,
    policy=st.sampled_from([None, *Policy]),
    fallback=st.sampled_from(["never", "auto", "prefer-peer"]),
)
def test_whatever_happens_there_is_one_answer_and_prompts_stay_where_they_may(
    here: list[Event | Exception],
    there: list[Event | Exception],
    house: House,
    policy: Policy | None,
    fallback: Fallback,
) -> None:
    async def ask() -> tuple[Site, list[Event]]:
        rules = replace(RULES, fallback=fallback)
        site = Site(
            ScriptedBackend(*here),
            ScriptedPeers(*there),
            house=house,
            rules=rules,
            patience_s=0.0,
        )
        return site, await site.ask(request(policy=policy))

    site, events = asyncio.run(ask())
    ends = [event for event in events if not isinstance(event, Accepted | Delta | ToolCall)]
    assert [events[-1]] == ends
    if policy is Policy.LOCAL or fallback == "never":
        assert not site.peers.asked
    pieces = [event for event in events if isinstance(event, Delta | ToolCall)]
    sources = [[s for s in script if isinstance(s, Delta | ToolCall)] for script in (here, there)]
    assert any(pieces == source[: len(pieces)] for source in sources)
    assert site.ledger.here == site.ledger.there == 0


LONG_HERE = Failed.of(PromptTooLong(5000, 4095))
LONG_THERE = Failed.of(TooLongForPeer("attic", "answers with status 400: context length"))


@pytest.mark.parametrize("was_accepted", [False, True])
async def test_what_is_too_long_for_a_peer_comes_back(*, was_accepted: bool) -> None:
    before = (THERE[0],) if was_accepted else ()
    site = Site(
        ScriptedBackend(ACCEPTED, DONE),
        ScriptedPeers(*before, LONG_THERE),
        rules=replace(RULES, fallback="prefer-peer"),
    )
    told = [Accepted(prompt_tokens=None, served_by="attic", reason="prefer-peer")]
    assert await site.ask() == [
        *(told if was_accepted else []),
        replace_reason("peer-failed"),
        DONE,
    ]


async def test_what_is_too_long_here_goes_to_a_peer() -> None:
    site = Site(ScriptedBackend(LONG_HERE), ScriptedPeers(*THERE))
    assert await site.ask() == from_attic("too-large")


async def test_what_is_too_long_for_everybody_is_refused_in_our_numbers() -> None:
    site = Site(ScriptedBackend(LONG_HERE), ScriptedPeers(LONG_THERE))
    assert await site.ask() == [LONG_HERE]
    alone = Site(ScriptedBackend(LONG_HERE))
    assert await alone.ask() == [LONG_HERE]


async def test_what_is_too_long_here_and_nobody_is_there_may_be_tried_again() -> None:
    site = Site(ScriptedBackend(LONG_HERE), ScriptedPeers(PEER_AWAY))
    [failed] = await site.ask()
    assert isinstance(failed, Failed)
    assert (failed.code, failed.retryable) == ("unavailable", True)
    assert "prompt is 5000 tokens" in failed.message


async def test_without_a_model_what_no_peer_can_do_is_refused_for_good() -> None:
    never = TooLongForPeer("attic", "has a context of 1024 tokens")
    beforehand = Site(
        ScriptedBackend(), ScriptedPeers(problem="attic is short", refusal=never), house=RELAY
    )
    refused = msgspec.structs.replace(Failed.of(never), reason="no-local-model")
    assert await beforehand.ask() == [refused]
    assert beforehand.notes.refusals == ["no-local-model"]
    asked = Site(ScriptedBackend(), ScriptedPeers(LONG_THERE), house=RELAY)
    assert await asked.ask() == [LONG_THERE]


async def test_what_no_peer_can_do_may_still_wait_for_the_model_here() -> None:
    never = TooLongForPeer("attic", "has a context of 1024 tokens")
    peers = ScriptedPeers(problem="attic is short", refusal=never)
    site = Site(ScriptedBackend(), peers, house=CRITICAL)
    assert codes(await site.ask()) == ["unavailable"]


async def test_peers_that_only_the_policy_excludes_are_named_when_the_others_fail() -> None:
    peers = ScriptedPeers(PEER_AWAY, barred="rack is in zone cloud")
    [failed] = await Site(ScriptedBackend(), peers, house=RELAY).ask()
    assert isinstance(failed, Failed)
    assert failed.message.startswith("no model is served here, and peer 'attic' refuses")
    assert "; rack is in zone cloud; retry in" in failed.message
