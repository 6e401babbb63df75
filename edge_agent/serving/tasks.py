"""Background tasks that may not die quietly."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger = logging.getLogger(__name__)

# sysexits.h: an internal software error; a service manager starts the daemon again.
EX_SOFTWARE = 70


def watched(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Run `work` as a task; a bug in it ends the process instead of leaving it half alive.

    The caller keeps the task and waits for its end.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_end_on_bug)
    return task


async def ended(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel `tasks` and wait until they are over."""
    live = [task for task in tasks if task is not None]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)


def _end_on_bug(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (bug := task.exception()) is None:
        return
    logger.critical("background task met a bug task=%s", task.get_name(), exc_info=bug)
    raise SystemExit(EX_SOFTWARE)
