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
from edge_agent.messages import Failed, Priority
from edge_agent.serving import turns
from edge_agent.serving.job import Ticket
from edge_agent.serving.turns import Limits, Next, after, choose, must_run_alone, places
from tests.serving.drafts import Clock

if TYPE_CHECKING:
    from edge_agent.errors import EdgeError

DEADLINE = Clock()()
CRASH = Failed.of(EngineCrashed("signal 9"))


def ticket(
    seq: int,
    crashes: int = 0,
    *,
    priority: Priority = Priority.NORMAL,
    client: str = "",
    since_s: float = 0.0,
) -> Ticket:
    return Ticket(
        seq=seq, id=str(seq), attempt=1, crashes=crashes, deadline=DEADLINE,
        priority=priority, client=client, since_s=since_s,
    )  # fmt: skip


def choice(
    waiting: list[Ticket], running: list[Ticket], *, now_s: float = 0.0, in_all: int = 9
) -> Ticket | None:
    limits = Limits(most_equals=3, most_in_all=in_all, max_crashes=3)
    place = places(running, now_s=now_s, ageing_s=60.0)
    return choose(waiting, running, place=place, limits=limits)


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


def test_a_higher_job_goes_first_and_is_not_kept_out_by_lower_ones() -> None:
    low, high = Priority.LOW, Priority.HIGH
    full = [ticket(number, priority=low) for number in range(3)]
    waiting = [ticket(4, priority=low), ticket(5), ticket(6, priority=high)]

    assert choice(waiting, full) == waiting[2]
    assert choice(waiting[:2], full) == waiting[1]
    assert choice(waiting[:1], full) is None
    assert choice(waiting, full, in_all=3) is None
    assert choice([ticket(9)], [ticket(n, priority=high) for n in range(3)]) is None


def test_waiting_raises_a_job_in_the_end_above_all() -> None:
    old = ticket(1, priority=Priority.LOW)
    new = [ticket(2, priority=Priority.HIGH, since_s=110.0), ticket(3, since_s=110.0)]

    assert choice([new[1], old], [], now_s=59.0) == new[1]
    assert choice([new[1], old], [], now_s=60.0) == old
    assert choice([*new, old], [], now_s=119.0) == new[0]
    new = [ticket(2, priority=Priority.HIGH, since_s=179.0, client="a")]
    assert choice([*new, old], [ticket(0)], now_s=179.0) == new[0]
    assert choice([*new, old], [ticket(0)], now_s=180.0) == old


def test_the_client_with_fewer_jobs_that_run_goes_first() -> None:
    many = [ticket(number, client="many") for number in range(3)]
    one = ticket(7, client="one")

    assert choice([*many[1:], one], many[:1]) == one
    assert choice([*many[1:], one], [ticket(0, client="one")]) == many[1]
    # Overdue, age alone counts.
    assert choice([*many[1:], one], many[:1], now_s=999.0) == many[1]


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
