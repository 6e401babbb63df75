"""Wakes whoever waits for something to change; what changed, they see for themselves."""

from __future__ import annotations

import asyncio


class News:
    """A bell that many can wait for, and that rings as often as there is something to tell."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def tell(self) -> None:
        """Wake all who wait at this moment."""
        self._rung.set()
        self._rung.clear()  # who was woken stays so; who comes later waits for the next

    async def wait(self) -> None:
        """Return at the next `tell`."""
        await self._rung.wait()
