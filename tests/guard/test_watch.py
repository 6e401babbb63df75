"""The watch: looks, keeps the level, tells its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.guard import watch as module
from edge_agent.guard.memory import Memory
from edge_agent.guard.policy import SETTLE_S, Level
from edge_agent.guard.sample import sample
from edge_agent.guard.watch import CALM_POLL_S, TENSE_POLL_S, Watch

if TYPE_CHECKING:
    import pytest

TOTAL = 4_000_000_000


class Scene:
    """Memory and time as a test wants them."""

    def __init__(self, share: float | None = 0.5) -> None:
        self.share = share
        self.now_s = 100.0
        self.load_bytes = 0
        self.is_loading = False
        self.looks = 0
        self.looked_often = asyncio.Event()

    def look(self) -> Memory | None:
        self.looks += 1
        if self.looks == 5:
            self.looked_often.set()
        if self.share is None:
            return None
        available = int(self.share * TOTAL)
        return Memory(
            available_bytes=available,
            swift_bytes=available // 2,
            total_bytes=TOTAL,
            bound="machine",
            rss_anon_bytes=1000,
            rss_file_bytes=2000,
        )

    def watch(self) -> Watch:
        return Watch(
            self.look,
            load_bytes=lambda: self.load_bytes,
            is_loading=lambda: self.is_loading,
            clock=lambda: self.now_s,
        )


def test_it_knows_memory_from_the_beginning() -> None:
    watch = Scene(0.5).watch()
    assert watch.as_health().level == "calm"
    assert watch.memory is not None
    assert watch.room_bytes == int(0.5 * TOTAL) - int(0.15 * TOTAL)
    assert Scene(0.04).watch().level is Level.CRITICAL


def test_listeners_hear_of_changes_and_of_nothing_else() -> None:
    scene = Scene()
    watch = scene.watch()
    heard: list[Level] = []
    watch.subscribe(heard.append)
    watch.poll()
    assert heard == []
    scene.share = 0.09
    watch.poll()
    watch.poll()
    assert heard == [Level.HARD]
    assert watch.reason == "360 MB available of 4000 MB (machine)"


def test_it_looks_more_often_when_memory_is_tight_or_nearly() -> None:
    scene = Scene(0.5)
    watch = scene.watch()
    assert watch.interval_s == CALM_POLL_S
    scene.share = 0.19
    watch.poll()
    assert watch.as_health().level == "calm"
    assert watch.interval_s == TENSE_POLL_S
    scene.now_s += 10
    scene.share = 0.14
    watch.poll()
    scene.share = 0.9
    watch.poll()
    assert watch.as_health().level == "soft"
    assert watch.interval_s == TENSE_POLL_S


def test_it_looks_more_often_when_memory_falls_fast() -> None:
    scene = Scene(0.8)
    watch = scene.watch()
    scene.now_s += 1
    scene.share = 0.55
    watch.poll()
    assert watch.interval_s == CALM_POLL_S
    scene.now_s += 1
    scene.share = 0.25
    watch.poll()
    assert watch.as_health().level == "calm"
    assert watch.interval_s == TENSE_POLL_S


def test_who_gives_way_is_asked_again_while_memory_is_short() -> None:
    scene = Scene(0.09)
    watch = scene.watch()
    asked: list[float] = []
    watch.subscribe_short(lambda: asked.append(scene.now_s))
    for _ in range(20):
        scene.now_s += 0.25
        watch.poll()
    assert asked == [101.0, 102.0, 103.0, 104.0, 105.0]
    scene.share = 0.5
    scene.now_s += 5
    watch.poll()
    assert len(asked) == 5


def test_every_look_is_told_to_who_wants_to_know() -> None:
    scene = Scene(0.5)
    watch = scene.watch()
    looks: list[float | None] = []
    watch.subscribe_look(lambda: looks.append(scene.share))
    for share in (0.5, 0.09, 0.4):
        scene.share = share
        watch.poll()
    assert looks == [0.5, 0.09, 0.4]


def test_new_work_begins_again_while_the_level_is_still_kept() -> None:
    scene = Scene(0.14)
    watch = scene.watch()
    assert (watch.may_begin, watch.retry_after_s) == (False, 30.0)
    scene.share = 0.5
    watch.poll()
    scene.now_s += 30
    watch.poll()
    assert watch.may_begin
    assert watch.as_health().may_begin
    assert (watch.as_health().level, watch.retry_after_s) == ("soft", 0.0)


def test_a_killed_engine_is_told_before_the_next_look() -> None:
    scene = Scene()
    watch = scene.watch()
    heard: list[Level] = []
    watch.subscribe(heard.append)
    watch.engine_killed()
    assert heard == [Level.CRITICAL]
    assert watch.retry_after_s == SETTLE_S
    assert scene.looks == 1


def test_critical_is_left_only_where_the_model_fits() -> None:
    scene = Scene()
    watch = scene.watch()
    watch.engine_killed()
    scene.load_bytes = int(0.6 * TOTAL)
    for _ in range(700):
        scene.now_s += 1
        watch.poll()
    assert watch.as_health().level == "critical"
    scene.share = 0.8
    for _ in range(121):
        scene.now_s += 1
        watch.poll()
    assert watch.as_health().level == "calm"


def test_where_nothing_tells_it_stays_calm_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(None)
    with caplog.at_level(logging.WARNING):
        watch = scene.watch()
        watch.poll()
    assert [record.message.split(":")[0] for record in caplog.records] == ["memory unknown"]
    assert watch.as_health().level == "calm"
    assert watch.room_bytes is None
    assert watch.interval_s == CALM_POLL_S
    health = watch.as_health()
    assert (health.available_bytes, health.bound) == (None, "unknown")


def test_a_look_that_fails_once_keeps_the_last_one() -> None:
    scene = Scene(0.5)
    watch = scene.watch()
    scene.share = None
    watch.poll()
    assert watch.memory is not None


def test_health_has_the_numbers_that_explain_the_level() -> None:
    scene = Scene(0.14)
    watch = scene.watch()
    scene.now_s += 2.5
    health = watch.as_health()
    assert (health.level, health.level_s) == ("soft", 2.5)
    assert health.available_bytes == int(0.14 * TOTAL)
    assert health.swift_bytes == int(0.07 * TOTAL)
    assert (health.rss_anon_bytes, health.rss_file_bytes) == (1000, 2000)
    assert health.reason == watch.reason


def test_every_change_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(0.14)
    with caplog.at_level(logging.INFO):
        scene.watch()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "memory level soft was=calm" in record.message
    assert "560 MB available" in record.message


async def test_its_task_looks_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALM_POLL_S", 0.0)
    scene = Scene()
    watch = scene.watch()
    task = asyncio.create_task(watch.run(), name="watch")
    async with asyncio.timeout(30):
        await scene.looked_often.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_real_looks_cost_little_next_to_a_decision_within_50_ms() -> None:
    def look() -> Memory | None:
        return sample(Path("/"), pids=(os.getpid(),))

    watch = Watch(look, load_bytes=lambda: 0, is_loading=lambda: False)
    before_s = os.times()
    for _ in range(20):
        watch.poll()
    after_s = os.times()
    # Processor time, which a busy machine does not change.
    taken_s = after_s.user + after_s.system - before_s.user - before_s.system
    assert taken_s / 20 < 0.05
