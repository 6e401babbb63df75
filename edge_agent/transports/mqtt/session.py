"""What runs while a connection lives: requests in, results out, our state told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from edge_agent.transports.mqtt.status import Presence, encode
from edge_agent.transports.mqtt.wire import Address, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.transports.mqtt.connection import Connection
    from edge_agent.transports.mqtt.intake import Intake
    from edge_agent.transports.mqtt.outbox import Outbox

# How soon others see that our state changed; looking costs nothing.
LOOK_S = 0.5
# Numbers that only count go out less often than changes of state.
COUNTS_S = 10.0
_COUNTS = ("queue", "running", "free_mb")

Retained = dict[str, dict[str, Any]]


class Session:
    """One connection at work."""

    def __init__(
        self,
        connection: Connection,
        intake: Intake,
        outbox: Outbox,
        *,
        tell: Callable[[Presence], Retained],
        keeps_retained: bool,
    ) -> None:
        """Serve `connection`; `tell` returns what is to be retained, by topic."""
        self.connection = connection
        self.outbox = outbox
        self._intake = intake
        self._tell = tell
        self._keeps_retained = keeps_retained
        self._taking: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> str:
        """Serve until the connection is over; return why."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (self.outbox.send_all(), self.outbox.note_confirmed())
            ]
            self._taking = group.create_task(self._intake.run(self.connection))
            self._telling = group.create_task(self._keep_telling())
            why = await self.connection.lost()
            for task in (*tasks, self._taking, self._telling):
                task.cancel()
        return why

    def stop_taking(self) -> None:
        """Handle no more requests; those that come stay the broker's, for the next daemon."""
        if self._taking:
            self._taking.cancel()

    async def farewell(self) -> None:
        """Deliver what is ready, say that we stop, and hang up."""
        self.stop_taking()
        if self._telling:
            self._telling.cancel()
        await self.outbox.empty()
        for topic, body in self._tell(Presence.STOPPED).items():
            self._retain(topic, body)
        await self.connection.idle()
        self.connection.disconnect()

    async def _keep_telling(self) -> None:
        """Publish our state now, and again whenever it has changed."""
        loop = asyncio.get_running_loop()
        told: Retained = {}
        counts_at_s = loop.time()
        while True:
            now = self._tell(Presence.ONLINE)
            is_counting = loop.time() >= counts_at_s
            for topic, body in now.items():
                before = told.get(topic)
                if body == before or (not is_counting and _same_state(body, before)):
                    continue
                told[topic] = body
                self._retain(topic, body)
            if is_counting:
                counts_at_s = loop.time() + COUNTS_S
            await asyncio.sleep(LOOK_S)

    def _retain(self, topic: str, body: dict[str, Any]) -> None:
        self.connection.post(
            Outgoing(
                address=Address(topic=topic), body=encode(body), is_retained=self._keeps_retained
            )
        )


def _same_state(body: dict[str, Any], before: dict[str, Any] | None) -> bool:
    return before is not None and {**body, **{name: before.get(name) for name in _COUNTS}} == {
        **before,
        **{name: before.get(name) for name in _COUNTS},
    }
