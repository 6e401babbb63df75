"""A supervised text engine in its own process, and readers of its streams."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from edge_agent.config import Engine, Memory
from edge_agent.ops.health import State
from edge_agent.worker.standing import Standing
from edge_agent.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

TEXT_ENGINE = Path(__file__).with_name("text_engine.py")
QUICK = Engine(restart_wait_s=0.05, stall_limit_s=60.0)

Supervise = "Callable[..., AbstractAsyncContextManager[Supervisor]]"


@asynccontextmanager
async def supervised(
    *arguments: str,
    limits: Engine = QUICK,
    keep_alive: Literal["forever"] | float = "forever",
    count_oom_kills: Callable[[], int | None] = lambda: 0,
    without_engine: State = State.FAILED,
) -> AsyncIterator[Supervisor]:
    """Run a text engine with `arguments` under a supervisor for the length of the block."""
    supervisor = Supervisor(
        limits,
        Memory(keep_alive=keep_alive),
        Standing(State.LOADING, "not started"),
        count_oom_kills=count_oom_kills,
        without_engine=without_engine,
    )
    command = [sys.executable, str(TEXT_ENGINE), *arguments]
    life = asyncio.create_task(supervisor.run(command), name="supervisor")
    try:
        yield supervisor
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


@pytest.fixture
def supervise() -> Callable[..., AbstractAsyncContextManager[Supervisor]]:
    """Return the context manager that supervises a text engine."""
    return supervised
