"""What counts as the same request, and how its crashes are remembered."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.messages import Message, Policy, Priority, Request, Role, Sampling, Tool
from edge_agent.worker.blame import Blame, fingerprint

ASKED = Request(id="1", messages=(Message(role=Role.USER, content="why"),), max_tokens=5)


@pytest.mark.parametrize(
    "same",
    [
        replace(ASKED, id="2"),
        replace(ASKED, stream=True),
        replace(ASKED, deadline_s=3.0),
        replace(ASKED, model="tiny:latest"),
        replace(ASKED, policy=Policy.LOCAL, hops=1),
        replace(ASKED, priority=Priority.LOW),
        replace(ASKED, keep_alive_s=0.0),
    ],
)
def test_who_asks_and_how_makes_no_difference(same: Request) -> None:
    assert fingerprint(same) == fingerprint(ASKED)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, messages=(Message(role=Role.SYSTEM, content="why"),)),
        replace(ASKED, messages=(*ASKED.messages, *ASKED.messages)),
        replace(ASKED, sampling=Sampling(seed=1)),
        replace(ASKED, stop=("x",)),
        replace(ASKED, max_tokens=None),
        replace(ASKED, tools=(Tool(name="f"),)),
    ],
)
def test_what_the_engine_would_compute_does(other: Request) -> None:
    assert fingerprint(other) != fingerprint(ASKED)


def test_crashes_add_up_and_an_answer_clears_them() -> None:
    blame = Blame()
    blame.crashed([b"a", b"b"])
    blame.crashed([b"a"])
    assert (blame.crashes(b"a"), blame.crashes(b"b"), blame.crashes(b"c")) == (2, 1, 0)
    blame.answered(b"a")
    assert blame.crashes(b"a") == 0


def test_twins_in_one_crash_are_blamed_once() -> None:
    blame = Blame()
    blame.crashed([b"a", b"a"])
    assert blame.crashes(b"a") == 1


def test_memory_is_bounded_and_keeps_the_recently_blamed() -> None:
    blame = Blame(remembered=2)
    blame.crashed([b"old"])
    blame.crashed([b"culprit"])
    blame.crashed([b"old"])
    blame.crashed([b"new"])
    assert [blame.crashes(mark) for mark in (b"culprit", b"old", b"new")] == [0, 2, 1]
