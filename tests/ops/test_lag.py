from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from edge_agent.ops.lag import NUM_KEPT, SLEEP_S, Lag, LoopLag

if TYPE_CHECKING:
    from collections.abc import Sequence


class LateLoop:
    """A clock and a sleep that lasts longer than it should, each time as scripted."""

    def __init__(self, late_s: Sequence[float]) -> None:
        self._late_s = iter(late_s)
        self._now_s = 1000.0

    def clock(self) -> float:
        return self._now_s

    async def sleep(self, wanted_s: float) -> None:
        assert wanted_s == SLEEP_S
        late_s = next(self._late_s, None)
        if late_s is None:
            raise asyncio.CancelledError
        self._now_s += wanted_s + late_s


async def lag_after(*late_s: float) -> LoopLag | None:
    loop = LateLoop(late_s)
    lag = Lag(clock=loop.clock, sleep=loop.sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    return lag.as_health()


async def test_nothing_is_told_before_the_first_wake() -> None:
    assert await lag_after() is None


async def test_one_wake_in_a_hundred_may_be_late() -> None:
    told = await lag_after(*[0.001] * 99, 0.7)
    assert told == LoopLag(p99_s=0.001, worst_s=0.7)


async def test_two_in_a_hundred_may_not() -> None:
    told = await lag_after(*[0.001] * 98, 0.3, 0.7)
    assert told == LoopLag(p99_s=0.3, worst_s=0.7)


async def test_what_is_over_a_minute_old_is_forgotten() -> None:
    told = await lag_after(*[0.9] * 10, *[0.002] * NUM_KEPT)
    assert told == LoopLag(p99_s=0.002, worst_s=0.002)


async def test_a_wake_before_its_time_is_not_late() -> None:
    assert await lag_after(-0.05) == LoopLag(p99_s=0.0, worst_s=0.0)


async def test_a_real_loop_that_is_blocked_is_late() -> None:
    lag = Lag()
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    blocked_s = 3 * SLEEP_S
    until_s = asyncio.get_running_loop().time() + blocked_s
    while asyncio.get_running_loop().time() < until_s:
        pass
    while (told := lag.as_health()) is None:  # noqa: ASYNC110  # nothing tells of a wake
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert told.worst_s >= blocked_s - SLEEP_S - 0.01
