"""How the daemon is told to stop, and how long each part may take over it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

# Each stage after the drain; all together stay well below what a service manager waits.
STAGE_LIMIT_S = 5.0
NUM_STAGES = 6


async def stage(name: str, work: Callable[[], Awaitable[object]], limit_s: float) -> None:
    """Do one step of the shutdown; a step that overruns is named and left behind."""
    try:
        async with asyncio.timeout(limit_s):
            await work()
    except TimeoutError:
        logger.warning("shutdown stage overran stage=%s limit_s=%.0f", name, limit_s)


def stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second SIGINT ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stopping.is_set():
            os._exit(128 + signal.SIGINT)  # the engine sees its link end, the kernel frees the lock
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGHUP, logger.info, "reload is not supported signal=SIGHUP")
    return stopping
