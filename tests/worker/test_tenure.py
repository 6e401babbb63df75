"""When the engine is in memory: the rules one by one, and what holds after any story."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.worker.tenure import Move, Tenure

FOREVER = Tenure.at_start(None)
BRIEF = Tenure.at_start(30.0)


def with_process(tenure: Tenure, *, open_requests: int = 0) -> Move:
    return tenure.move(has_process=True, open_requests=open_requests)


def without(tenure: Tenure) -> Move:
    return tenure.move(has_process=False, open_requests=0)


def test_what_stays_for_ever_is_loaded_at_once_and_all_else_when_somebody_wants_it() -> None:
    assert without(FOREVER) is Move.START
    assert without(BRIEF) is Move.REST
    assert without(BRIEF.called()) is Move.START


def test_what_is_there_goes_on() -> None:
    assert with_process(FOREVER) is Move.SERVE
    assert with_process(BRIEF.called().started(), open_requests=3) is Move.SERVE


def test_what_was_sent_away_finishes_what_it_began() -> None:
    leaving = FOREVER.started().sent_away()

    assert with_process(leaving, open_requests=1) is Move.RETIRE
    assert with_process(leaving) is Move.END
    assert without(leaving) is Move.REST


def test_who_calls_while_it_leaves_gets_the_next_one() -> None:
    leaving = FOREVER.started().sent_away().called()

    assert with_process(leaving, open_requests=1) is Move.RETIRE
    assert without(leaving) is Move.START
    assert with_process(leaving.started()) is Move.SERVE


def test_a_hold_ends_it_whatever_it_does_and_lets_none_start() -> None:
    held = FOREVER.started().held()

    assert with_process(held, open_requests=5) is Move.END
    assert without(held) is Move.REST
    assert without(held.called()) is Move.REST
    assert without(held.released()) is Move.START


def test_a_hold_wakes_nothing_that_was_not_wanted_before() -> None:
    assert without(BRIEF.held().released()) is Move.REST


def test_idleness_ends_it_after_its_time_and_not_before() -> None:
    idle = BRIEF.called().started().seen(is_idle=True, now_s=100.0)

    assert idle.expires_s == 130.0
    assert with_process(idle.seen(is_idle=True, now_s=129.9)) is Move.SERVE
    assert with_process(idle.seen(is_idle=True, now_s=130.0)) is Move.END


def test_work_begins_the_time_anew() -> None:
    idle = BRIEF.called().started().seen(is_idle=True, now_s=100.0)
    worked = idle.seen(is_idle=False, now_s=120.0)

    assert worked.expires_s is None
    assert worked.seen(is_idle=True, now_s=125.0).expires_s == 155.0


@pytest.mark.parametrize(("keep_alive_s", "expires_s"), [(0.0, 100.0), (5.0, 105.0), (None, None)])
def test_a_request_may_say_how_long(keep_alive_s: float | None, expires_s: float | None) -> None:
    kept = BRIEF.called().started().kept(keep_alive_s)
    idle = kept.seen(is_idle=True, now_s=100.0)

    assert with_process(idle) is (Move.END if keep_alive_s == 0 else Move.SERVE)
    assert idle.expires_s == expires_s


times = st.lists(
    st.tuples(
        st.sampled_from(["called", "started", "sent_away", "held", "released", "busy", "idle"]),
        st.floats(0, 50),
    ),
    max_size=30,
)


def told(steps: list[tuple[str, float]], tenure: Tenure) -> Tenure:
    now_s = 0.0
    for name, pause_s in steps:
        now_s += pause_s
        if name in {"busy", "idle"}:
            tenure = tenure.seen(is_idle=name == "idle", now_s=now_s)
        else:
            tenure = getattr(tenure, name)()
    return tenure


@given(times, st.none() | st.floats(0, 100), st.booleans(), st.integers(0, 9))
def test_after_any_story_the_strongest_will_is_done(
    steps: list[tuple[str, float]], keep_alive_s: float | None, has_process: bool, work: int
) -> None:
    tenure = told(steps, Tenure.at_start(keep_alive_s))
    move = tenure.move(has_process=has_process, open_requests=work if has_process else 0)

    assert (move in {Move.START, Move.REST}) is not has_process
    if tenure.is_held:
        assert move in {Move.REST, Move.END}
    elif has_process and work:
        assert move is not Move.END  # nothing but memory breaks an answer off
    if move is Move.START:
        assert tenure.is_wanted


@given(times, st.none() | st.floats(0, 100))
def test_from_anywhere_a_release_and_a_call_bring_it_back(
    steps: list[tuple[str, float]], keep_alive_s: float | None
) -> None:
    back = told(steps, Tenure.at_start(keep_alive_s)).released().called()

    assert without(back) is Move.START
    assert with_process(back.started()) is Move.SERVE
