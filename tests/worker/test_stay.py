"""The tenure in force: what is said of it, and the alarm for its end."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.messages import Message, Request, Role
from edge_agent.worker.stay import Stay
from edge_agent.worker.tenure import Move

LONG_S = 3600.0


class Bell:
    """Counts how often it rings."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def __call__(self) -> None:
        self.rung.set()


def ask(keep_alive_s: float | None = None) -> Request:
    messages = (Message(role=Role.USER, content="why"),)
    return Request(id="r", messages=messages, keep_alive_s=keep_alive_s)


def loaded(keep_alive_s: float | None, bell: Bell) -> Stay:
    stay = Stay(keep_alive_s, on_due=bell)
    stay.call()
    stay.begin()
    return stay


async def test_the_alarm_rings_when_idleness_lasted_for_long_enough() -> None:
    bell = Bell()
    stay = loaded(0.01, bell)
    stay.look(is_idle=True)
    assert stay.move(has_process=True, open_requests=0) is Move.SERVE
    await bell.rung.wait()
    stay.look(is_idle=True)

    assert stay.move(has_process=True, open_requests=0) is Move.END
    assert stay.why == "unloaded: idle for 0.01 s; the model is loaded when a request needs it"


@pytest.mark.parametrize("change", ["busy", "closed", "next process"])
async def test_an_alarm_that_is_not_due_any_more_does_not_ring(change: str) -> None:
    bell = Bell()
    stay = loaded(0.01, bell)
    stay.look(is_idle=True)
    if change == "busy":
        stay.look(is_idle=False)
    elif change == "closed":
        stay.close()
    else:
        stay.begin()

    await asyncio.sleep(0.05)  # its absence is what is tested
    assert not bell.rung.is_set()


async def test_what_a_request_asks_for_holds_until_the_next_one() -> None:
    stay = loaded(LONG_S, Bell())
    stay.answered(ask(0.0))
    stay.answered(ask())
    stay.look(is_idle=True)
    assert stay.move(has_process=True, open_requests=0) is Move.SERVE
    stay.answered(ask(0.0))
    stay.look(is_idle=True)
    assert stay.move(has_process=True, open_requests=0) is Move.END


async def test_a_negative_time_is_for_ever() -> None:
    stay = loaded(0.0, Bell())
    stay.answered(ask(-1.0))
    stay.look(is_idle=True)
    assert stay.move(has_process=True, open_requests=0) is Move.SERVE


async def test_it_says_why_there_is_no_process() -> None:
    stay = Stay(LONG_S, on_due=Bell())
    assert stay.why == "not loaded; the model is loaded when a request needs it"
    stay.send_away("asked for by an operator")
    assert (
        stay.why
        == "unloaded: asked for by an operator; the model is loaded when a request needs it"
    )
    stay.hold("memory is critical", 7.0)
    assert (stay.why, stay.retry_after_s, stay.is_held) == ("memory is critical", 7.0, True)
    stay.release()
    assert (stay.retry_after_s, stay.is_held) == (None, False)
