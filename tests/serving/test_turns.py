from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import (
    Draining,
    EngineCrashed,
    InvalidRequest,
    Loading,
    Overloaded,
    PeerFailed,
    Poison,
    Pressure,
    Unavailable,
)
from edge_agent.messages import Failed
from edge_agent.serving import turns
from edge_agent.serving.job import Ticket
from edge_agent.serving.turns import Next, after, choose, must_run_alone
from tests.serving.drafts import Clock

if TYPE_CHECKING:
    from edge_agent.errors import EdgeError

CRASH = Failed.of(EngineCrashed("signal 9"))


def ticket(seq: int, crashes: int = 0) -> Ticket:
    return Ticket(seq=seq, id=str(seq), attempt=1, crashes=crashes, deadline=Clock()())


def choice(waiting: list[Ticket], running: list[Ticket], most: int = 3) -> Ticket | None:
    return choose(waiting, running, most=most, max_crashes=3)


@pytest.mark.parametrize(
    "error",
    [
        Draining("d", 1),
        Loading("l", 1),
        Overloaded("o", 1),
        Pressure("p", 1),
        PeerFailed("attic", "is away"),
        Unavailable("u", 1),
    ],
)
def test_not_now_puts_a_job_back_without_blame(error: EdgeError) -> None:
    assert after(Failed.of(error), crashes=2, max_crashes=3) is Next.AGAIN


def test_a_crash_blames_the_job() -> None:
    assert after(CRASH, crashes=0, max_crashes=3) is Next.BLAME


def test_the_last_crash_allowed_is_poison() -> None:
    assert after(CRASH, crashes=2, max_crashes=3) is Next.POISON


@pytest.mark.parametrize("error", [InvalidRequest("no", "messages"), Poison(3)])
def test_what_time_cannot_mend_is_the_result(error: EdgeError) -> None:
    assert after(Failed.of(error), crashes=0, max_crashes=3) is Next.FINISH


def test_the_oldest_job_goes_first() -> None:
    assert choice([ticket(4), ticket(5)], [ticket(1)]) == ticket(4)


def test_no_job_starts_when_every_place_is_taken() -> None:
    assert choice([ticket(4)], [ticket(1), ticket(2), ticket(3)]) is None


def test_a_job_one_crash_from_poison_waits_until_nobody_runs() -> None:
    suspect = ticket(1, crashes=2)

    assert choice([suspect, ticket(2)], [ticket(3)]) is None
    assert choice([suspect, ticket(2)], []) == suspect


def test_nobody_joins_a_job_that_runs_alone() -> None:
    assert choice([ticket(2)], [ticket(1, crashes=2)]) is None


def test_with_one_crash_allowed_no_job_runs_alone() -> None:
    assert not must_run_alone(0, max_crashes=1)


def test_waits_are_bounded() -> None:
    assert turns.FIRST_WAIT_S < turns.LONGEST_WAIT_S <= 60
