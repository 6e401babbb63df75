"""Who may still be asked, after whom."""

from __future__ import annotations

from edge_agent.errors import EngineCrashed, InvalidRequest, PeerFailed
from edge_agent.messages import Delta, Failed, Policy
from edge_agent.serving.admission import Need, Reason
from edge_agent.serving.record import Record
from edge_agent.serving.visit import Visit
from tests.serving.house import ACCEPTED, DONE, request

NEED = Need(prompt_bytes=1, least_tokens=0, likely_tokens=1, needed_bytes=None, policy=Policy.SITE)
CRASHED = Failed.of(EngineCrashed("signal 9"))
AWAY = Failed.of(PeerFailed("attic", "is away"))


def visit() -> Visit:
    return Visit(request(deadline_s=10.0), Record("r", began_s=100.0), NEED)


def test_each_side_takes_over_once() -> None:
    leaving = visit()
    assert leaving.leaves(CRASHED)
    assert not leaving.returns(AWAY)
    returning = visit()
    assert returning.returns(AWAY)
    assert returning.reason_here is Reason.PEER_FAILED
    assert not returning.leaves(CRASHED)


def test_nobody_takes_over_what_is_begun_or_wrong() -> None:
    begun = visit()
    begun.note(ACCEPTED)
    assert visit().leaves(CRASHED)
    begun.note(Delta("a"))
    assert not begun.leaves(CRASHED)
    assert not begun.returns(AWAY)
    wrong = Failed.of(InvalidRequest("no", "messages"))
    assert not visit().leaves(wrong)
    assert not visit().returns(wrong)


def test_two_failures_are_told_as_one() -> None:
    twice = visit()
    twice.leaves(CRASHED)
    assert twice.last_word(DONE) == DONE
    both = twice.last_word(AWAY)
    assert isinstance(both, Failed)
    assert both.code == "unavailable"
    assert "signal 9" in both.message
    assert "attic" in both.message
    assert visit().last_word(AWAY) == AWAY


def test_the_time_left_is_never_negative() -> None:
    assert visit().left_s(104.0) == 6.0
    assert visit().left_s(999.0) == 0.0
    assert Visit(request(), Record("r", began_s=0.0), NEED).left_s(5.0) is None
