"""Where requests run, and when those that are refused are told to come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import State
from edge_agent.serving.admission import (
    LEAST_RETRY_S,
    LONGEST_RETRY_S,
    Decision,
    House,
    Load,
    Need,
    Place,
    Reason,
    Rules,
    expected_wait_s,
    next_pace_s,
    place,
    retry_after_s,
)
from edge_agent.serving.refusals import refusal

amounts = st.none() | st.integers(0, 1 << 40)
paces = st.none() | st.floats(0, 1e6)
houses = st.builds(
    House,
    state=st.sampled_from(State),
    level=st.sampled_from(Level),
    detail=st.just("how it is"),
    room_bytes=amounts,
    most_bytes=amounts,
    context_tokens=st.none() | st.integers(1, 1 << 17),
    may_begin=st.booleans(),
)
loads = st.builds(
    Load,
    house=houses,
    open_requests=st.integers(0, 200),
    open_bytes=st.integers(0, 1 << 30),
    pace_s=paces,
    is_draining=st.booleans(),
)
needs = st.builds(
    Need,
    prompt_bytes=st.integers(0, 1 << 20),
    least_tokens=st.integers(0, 1 << 18),
    likely_tokens=st.integers(0, 1 << 18),
    needed_bytes=amounts,
    policy=st.sampled_from(Policy),
    left_s=st.none() | st.floats(0, 1e6),
    num_peers=st.integers(0, 16),
    tokens=st.integers(0, 1 << 18),
    fits_tokens=st.integers(0, 1 << 18),
)
rules_ = st.builds(
    Rules,
    slots=st.integers(1, 64),
    queue_requests=st.integers(1, 100),
    queue_bytes=st.integers(1 << 20, 1 << 30),
    fallback=st.sampled_from(["never", "auto", "prefer-peer"]),
    policy=st.sampled_from(Policy),
    max_local_wait_s=st.none() | st.floats(0.001, 1e5),
    min_prompt_tokens_for_peer=st.none() | st.integers(1, 1 << 20),
)

RULES = Rules(
    slots=2,
    queue_requests=4,
    queue_bytes=1000,
    fallback="auto",
    policy=Policy.SITE,
    max_local_wait_s=None,
    min_prompt_tokens_for_peer=None,
)
HOUSE = House(
    state=State.READY,
    level=Level.CALM,
    room_bytes=100,
    most_bytes=500,
    context_tokens=50,
)
LOAD = Load(house=HOUSE, open_requests=0, open_bytes=0, pace_s=4.0, is_draining=False)
NEED = Need(
    prompt_bytes=100,
    least_tokens=3,
    likely_tokens=30,
    needed_bytes=80,
    policy=Policy.SITE,
    num_peers=1,
)
ALONE = replace(NEED, num_peers=0)


def furnished(**more: Any) -> Load:
    return replace(LOAD, house=replace(HOUSE, **more))


@given(loads, needs, rules_)
def test_every_request_goes_somewhere_for_a_reason(load: Load, need: Need, rules: Rules) -> None:
    decision = place(load, need, rules)
    assert decision == place(load, need, rules)
    if decision.place is Place.HERE:
        assert decision.reason is Reason.LOCAL
    if decision.place is Place.REFUSE:
        assert str(refusal(decision.reason, load, need, rules))


@given(loads, needs, rules_)
def test_what_stays_here_by_policy_or_rule_is_given_to_no_peer(
    load: Load, need: Need, rules: Rules
) -> None:
    if place(load, need, rules).place is Place.PEER:
        assert need.policy is not Policy.LOCAL
        assert need.num_peers > 0
        assert rules.fallback != "never"


@given(loads, needs, rules_)
def test_nothing_begins_here_without_a_model_or_memory(
    load: Load, need: Need, rules: Rules
) -> None:
    house = load.house
    if place(load, need, rules).place is Place.HERE:
        assert house.level is Level.CALM
        assert house.state is not State.RELAY
        assert (
            need.needed_bytes is None
            or house.room_bytes is None
            or (need.needed_bytes <= house.room_bytes)
        )
    if house.level is Level.CRITICAL or house.state in {State.RELAY, State.HELD}:
        assert place(load, need, rules).place in {Place.PEER, Place.REFUSE}


@given(loads, needs, rules_)
def test_nobody_enters_a_house_that_is_closing(load: Load, need: Need, rules: Rules) -> None:
    closing = replace(load, is_draining=True)
    assert place(closing, need, rules) == Decision(Place.REFUSE, Reason.DRAINING)


@given(loads, needs, rules_)
def test_the_house_never_holds_more_than_slots_and_queue(
    load: Load, need: Need, rules: Rules
) -> None:
    if place(load, need, rules).place in {Place.HERE, Place.WAIT}:
        assert load.open_requests + 1 <= rules.slots + rules.queue_requests
        assert load.open_requests == 0 or load.open_bytes <= rules.queue_bytes


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (LOAD, Decision(Place.HERE, Reason.LOCAL)),
        (replace(LOAD, open_requests=2), Decision(Place.WAIT, Reason.QUEUE)),
        (replace(LOAD, open_requests=6), Decision(Place.REFUSE, Reason.QUEUE)),
        (replace(LOAD, open_requests=1, open_bytes=950), Decision(Place.REFUSE, Reason.QUEUE)),
        (furnished(state=State.LOADING), Decision(Place.WAIT, Reason.LOADING)),
        (furnished(state=State.PREPARING), Decision(Place.WAIT, Reason.LOADING)),
        (furnished(state=State.UNLOADED), Decision(Place.WAIT, Reason.UNLOADED)),
        (furnished(state=State.RESTARTING), Decision(Place.WAIT, Reason.CRASHED)),
        (furnished(state=State.HELD), Decision(Place.REFUSE, Reason.PRESSURE)),
        (furnished(state=State.FAILED), Decision(Place.REFUSE, Reason.NO_LOCAL_MODEL)),
        (furnished(state=State.RELAY), Decision(Place.REFUSE, Reason.NO_LOCAL_MODEL)),
        (furnished(level=Level.SOFT), Decision(Place.WAIT, Reason.PRESSURE)),
        (furnished(level=Level.HARD), Decision(Place.WAIT, Reason.PRESSURE)),
        (furnished(level=Level.CRITICAL), Decision(Place.REFUSE, Reason.PRESSURE)),
        (furnished(level=Level.SOFT, may_begin=True), Decision(Place.HERE, Reason.LOCAL)),
        (furnished(level=Level.HARD, may_begin=True), Decision(Place.HERE, Reason.LOCAL)),
        (furnished(room_bytes=79), Decision(Place.WAIT, Reason.PRESSURE)),
        (furnished(room_bytes=None), Decision(Place.HERE, Reason.LOCAL)),
        (furnished(most_bytes=79), Decision(Place.REFUSE, Reason.TOO_LARGE)),
        (furnished(context_tokens=3), Decision(Place.REFUSE, Reason.TOO_LARGE)),
        (furnished(context_tokens=4), Decision(Place.HERE, Reason.LOCAL)),
    ],
)
def test_without_peers_it_is_the_engine_or_nobody(load: Load, expected: Decision) -> None:
    assert place(load, ALONE, RULES) == expected
    assert place(load, replace(NEED, policy=Policy.LOCAL), RULES) == expected
    assert place(load, NEED, replace(RULES, fallback="never")) == expected


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (replace(LOAD, open_requests=6), Reason.QUEUE),
        (furnished(state=State.LOADING), Reason.LOADING),
        (furnished(state=State.UNLOADED), Reason.UNLOADED),
        (furnished(state=State.RESTARTING), Reason.CRASHED),
        (furnished(state=State.FAILED), Reason.NO_LOCAL_MODEL),
        (furnished(state=State.RELAY), Reason.NO_LOCAL_MODEL),
        (furnished(level=Level.SOFT), Reason.PRESSURE),
        (furnished(level=Level.CRITICAL), Reason.PRESSURE),
        (furnished(room_bytes=79), Reason.PRESSURE),
        (furnished(most_bytes=79), Reason.TOO_LARGE),
    ],
)
def test_a_peer_answers_what_the_engine_cannot_begin_with(load: Load, reason: Reason) -> None:
    assert place(load, NEED, RULES) == Decision(Place.PEER, reason)


@pytest.mark.parametrize(
    ("rules", "need", "open_requests", "reason"),
    [
        (replace(RULES, fallback="prefer-peer"), NEED, 0, Reason.PREFER_PEER),
        (replace(RULES, min_prompt_tokens_for_peer=30), NEED, 0, Reason.LONG_PROMPT),
        (replace(RULES, min_prompt_tokens_for_peer=31), NEED, 0, None),
        (replace(RULES, max_local_wait_s=1.9), NEED, 2, Reason.QUEUE),
        (replace(RULES, max_local_wait_s=2.0), NEED, 2, None),
        (RULES, NEED, 5, None),
        (RULES, replace(NEED, left_s=5.9), 2, Reason.DEADLINE),
        (RULES, replace(NEED, left_s=6.0), 2, None),
        (RULES, replace(NEED, left_s=3.9), 0, Reason.DEADLINE),
    ],
)
def test_a_peer_answers_first_where_that_is_wanted(
    rules: Rules, need: Need, open_requests: int, reason: Reason | None
) -> None:
    decision = place(replace(LOAD, open_requests=open_requests), need, rules)
    assert (decision.reason if decision.place is Place.PEER else None) is reason


def test_a_prompt_that_is_alone_may_be_of_any_size() -> None:
    assert place(LOAD, replace(ALONE, prompt_bytes=5000), RULES).place is Place.HERE


def test_what_can_never_fit_is_refused_with_the_numbers() -> None:
    need = replace(ALONE, needed_bytes=1_000_000, fits_tokens=17)
    error = refusal(Reason.TOO_LARGE, LOAD, need, RULES)
    assert (error.code, error.retryable) == ("insufficient_memory", False)
    assert "1000000 bytes" in str(error)
    assert "17 tokens" in str(error)
    long = refusal(Reason.TOO_LARGE, LOAD, replace(ALONE, least_tokens=80), RULES)
    assert long.code == "context_length_exceeded"
    assert "at least 80 tokens, the limit is 49" in str(long)


@pytest.mark.parametrize("may_begin", [False, True])
def test_what_is_large_does_not_wait_for_hard_to_pass(may_begin: bool) -> None:
    load = furnished(level=Level.HARD, context_tokens=4096, may_begin=may_begin)
    small, large = replace(ALONE, tokens=1024), replace(ALONE, tokens=1025)
    assert load.house.cap_tokens == 1024
    assert place(load, large, RULES) == Decision(Place.REFUSE, Reason.PRESSURE)
    assert place(load, small, RULES).place is (Place.HERE if may_begin else Place.WAIT)
    assert place(load, replace(large, num_peers=1), RULES).place is Place.PEER


def test_the_context_is_lowered_by_hard_alone() -> None:
    assert replace(HOUSE, level=Level.SOFT, context_tokens=4096).cap_tokens is None
    assert replace(HOUSE, level=Level.HARD, context_tokens=None).cap_tokens is None


@given(rules_, paces)
def test_the_time_to_come_back_is_within_its_bounds(rules: Rules, pace_s: float | None) -> None:
    assert LEAST_RETRY_S <= retry_after_s(rules, pace_s) <= LONGEST_RETRY_S


def test_a_slower_house_says_a_later_time() -> None:
    rules = replace(RULES, slots=4, queue_requests=32)
    assert retry_after_s(rules, 2.0) == 8.0  # 16 of 32 waiting, 4 at a time, 2 s each
    assert retry_after_s(rules, 4.0) == 16.0


def test_the_wait_grows_with_those_in_front() -> None:
    assert [expected_wait_s(before, 4.0, 2) for before in range(5)] == [0, 0, 2, 4, 6]
    assert expected_wait_s(100, None, 2) == 0


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=50))
def test_the_pace_stays_among_what_was_measured(answers_s: list[float]) -> None:
    pace_s = None
    for answer_s in answers_s:
        pace_s = next_pace_s(pace_s, answer_s)
    assert pace_s is not None
    assert min(answers_s) * 0.999 <= pace_s <= max(answers_s) * 1.001
