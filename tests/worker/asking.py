"""How tests ask a supervisor, and look at the process it has."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from edge_agent.messages import Event, Message, Request, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.ops.health import State
    from edge_agent.worker.supervisor import Supervisor

PATIENCE_S = 20.0
SLOW = "--pace-s=0.02"
LONG = " ".join(str(i) for i in range(900))


def ask(
    prompt: str, request_id: str = "r", max_tokens: int | None = None, **fields: object
) -> Request:
    message = Message(role=Role.USER, content=prompt)
    request = Request(id=request_id, messages=(message,), max_tokens=max_tokens)
    return replace(request, **fields)


async def events_of(supervisor: Supervisor, request: Request) -> list[Event]:
    async with asyncio.timeout(PATIENCE_S), aclosing(supervisor.stream(request)) as events:
        return [event async for event in events]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # it may hold in another process
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def engine_pid(supervisor: Supervisor) -> int:
    assert supervisor.child_pid is not None
    return supervisor.child_pid


def state(supervisor: Supervisor) -> State:
    return supervisor._life._standing.state


def begin(supervisor: Supervisor, prompt: str, **fields: Any) -> asyncio.Task[list[Event]]:
    return asyncio.create_task(events_of(supervisor, ask(prompt, **fields)))


def code(events: list[Event]) -> str | None:
    return getattr(events[-1], "code", None)
