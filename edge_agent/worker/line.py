"""The line in front of the engine: who waits until it takes requests, for how long, and in vain."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.errors import Loading, Pressure
from edge_agent.ops.health import State
from edge_agent.worker.life import FAILED_WAIT_S, LEAST_RETRY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.config import Engine
    from edge_agent.worker.child import Child
    from edge_agent.worker.life import Life
    from edge_agent.worker.standing import Standing


class Line:
    """Those who wait for the engine."""

    def __init__(self, life: Life, limits: Engine, standing: Standing) -> None:
        self._life = life
        self._limits = limits
        self._standing = standing

    @property
    def load_left_s(self) -> float | None:
        """How long a load takes, less what of one has passed; None if none was measured."""
        return self._life.clock.left_s(time.monotonic())

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Count somebody who waits for the engine: it is not idle then."""
        self._life.num_waiting += 1
        try:
            yield
        finally:
            self._life.num_waiting -= 1
            self._life.act()

    async def served(self, limit_s: float) -> Child:
        """Have the engine loaded if it is not; return it once it takes requests.

        Raises:
            Loading: it does not within `limit_s`, or is not expected to.
            Pressure: memory is critical.
        """
        life = self._life
        try:
            async with asyncio.timeout(limit_s):
                while not (child := life.child) or not life.is_serving:
                    self._refuse_when_vain()
                    if not life.stay.is_wanted:
                        life.stay.call()
                        life.act()
                    await life.news.wait()
        except TimeoutError:
            raise Loading(self._standing.detail, self._retry_s()) from None
        return child

    def _refuse_when_vain(self) -> None:
        stay = self._life.stay
        if stay.is_held:
            raise Pressure(stay.why, stay.retry_after_s or LEAST_RETRY_S)
        if self._standing.state in {State.FAILED, State.RELAY}:
            raise Loading(self._standing.detail, FAILED_WAIT_S)

    def _retry_s(self) -> float:
        """Return when a load that just went on for too long should be over."""
        left_s = self.load_left_s
        return self._limits.load_wait_s if left_s is None else max(LEAST_RETRY_S, left_s)
