"""News reach all who wait, and nobody who comes too late."""

from __future__ import annotations

import asyncio

from edge_agent.worker.news import News


async def test_all_who_wait_are_woken() -> None:
    news = News()
    waiting = [asyncio.create_task(news.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    news.tell()
    await asyncio.gather(*waiting)


async def test_who_comes_later_waits_for_the_next() -> None:
    news = News()
    news.tell()
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    news.tell()
    await waiting
