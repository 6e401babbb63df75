"""Under a real limit, beside a neighbour that takes and gives back, every request has an end.

The daemon with the real model and a neighbour share a memory group that holds what the daemon
needs and a tenth more. When the neighbour has most there is room for the daemon and not for its
engine. Outside stands another gateway as a peer, whose answers are known. The whole of it:
`pytest -m long tests/chaos/memory`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest

from edge_agent.guard.policy import SETTLE_S
from edge_agent.modelstore.store import ModelStore
from tests import text_daemon
from tests.broker import LocalBroker
from tests.chaos.checker import explained, violations
from tests.chaos.memory.neighbour import Neighbour
from tests.chaos.memory.traffic import LOCAL, Mail, Outcome, ask_http, requests_of
from tests.conftest import MODEL
from tests.daemon_process import PATIENCE_S, Served, serving
from tests.real.limited import MemoryGroup, memory_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

pytestmark = [pytest.mark.chaos, pytest.mark.real]

NODE = "storm"
# As the unit of systemd starts it, and for the same end: the neighbour may be larger, and it is
# the engine that the kernel takes first.
AS_A_SERVICE = ["/bin/sh", "-c", 'echo 200 > /proc/self/oom_score_adj && exec "$@"', "sh"]
SERVE = [*AS_A_SERVICE, sys.executable, "-m", "edge_agent", "serve"]
PEER = "attic"
# Daemon, engine and weights at the end of such a storm without a limit, and a tenth more.
LIMIT_BYTES = 440_000_000
ENVIRON = {
    "EDGE_AGENT_MQTT__NODE": NODE,
    "EDGE_AGENT_ENGINE__SLOTS": "2",
    "EDGE_AGENT_ENGINE__LOAD_WAIT_S": "8",
    # Of a gateway with 4 GB it is a sixteenth.
    "EDGE_AGENT_MEMORY__RESERVE": "16MiB",
    "EDGE_AGENT_DAEMON__LOG_LEVEL": "warning",
}
LOOK_S = 0.2
# More than is left, and less than the end of the engine gives back.
OVER_BYTES = 10_000_000
# An engine that was ended for memory stays away for as long as its level is kept.
BACK_WITHIN_S = SETTLE_S + 120.0
# The machines of CI have neighbours of their own; ours are to stay below 0.05.
MOST_LAG_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How much of everything."""

    requests: int
    clients: int
    """At HTTP; two requests more are always out over MQTT."""
    longest_pause_s: float
    """Between two requests of a client."""
    swing_bytes: int
    """The neighbour has so much more, and so much less, than on average; at least nothing."""
    limit_bytes: int
    half_period_s: float
    ramp_s: float
    """In which the neighbour takes what it has more."""
    deadline_s: float
    """Of requests over MQTT that name none: what is too long for the peer waits for the engine."""


FAST = Strength(
    requests=100,
    clients=4,
    longest_pause_s=2.0,
    swing_bytes=150_000_000,
    limit_bytes=LIMIT_BYTES,
    half_period_s=6.0,
    ramp_s=3.0,
    deadline_s=120.0,
)
# A swing that is more than the whole engine: room for it is added, and at its peak there is as
# little left as in the fast lane.
LONG = Strength(
    requests=1000,
    clients=4,
    longest_pause_s=6.0,
    swing_bytes=500_000_000,
    limit_bytes=LIMIT_BYTES + 2 * (500_000_000 - FAST.swing_bytes),
    half_period_s=20.0,
    ramp_s=8.0,
    deadline_s=120.0,
)
LEAP = Strength(
    requests=24,
    clients=4,
    longest_pause_s=1.0,
    swing_bytes=0,
    limit_bytes=LIMIT_BYTES,
    half_period_s=0.0,
    ramp_s=0.0,
    # The engine stays away for minutes: whoever waits for it longer waits for nothing.
    deadline_s=15.0,
)


@dataclass
class Seen:
    """What health told during a storm."""

    levels: list[str] = field(default_factory=list)
    """The first, and each that it changed to."""
    changes_s: list[float] = field(default_factory=list)
    """When it changed."""
    least_bytes: dict[str, int] = field(default_factory=dict)
    """For each level, what was available when it was first seen."""
    lags_s: list[float] = field(default_factory=list)
    """99th percentiles, each of the minute before."""

    def take(self, health: dict[str, Any]) -> None:
        """Note a look at health."""
        level = health["memory"]["level"]
        if self.levels[-1:] != [level]:
            self.changes_s += [time.monotonic()] if self.levels else []
            self.levels.append(level)
            self.least_bytes.setdefault(level, health["memory"]["available_bytes"])
        if health["loop_lag"]:
            self.lags_s.append(health["loop_lag"]["p99_s"])

    @property
    def most_changes(self) -> int:
        """How often the level changed in the ten minutes in which it did so most."""
        times = self.changes_s
        return max((sum(t <= u < t + 600 for u in times) for t in times), default=0)


class Site:
    """The gateway within its limit, and what is around it."""

    def __init__(
        self, gateway: Served, neighbour: Neighbour, broker: LocalBroker, group: MemoryGroup
    ) -> None:
        self.gateway = gateway
        self.neighbour = neighbour
        self.broker = broker
        self.group = group
        self.seen = Seen()

    async def watch(self) -> None:
        """Look at health again and again; the daemon must be there each time."""
        while True:
            self.seen.take(await asyncio.to_thread(self.gateway.health))
            await asyncio.sleep(LOOK_S)

    async def swing(self, strength: Strength) -> None:
        """Have the neighbour take and give back, a square wave with slanted flanks."""
        while True:
            for num_bytes in (0, 2 * strength.swing_bytes):
                began_s = time.monotonic()
                await asyncio.to_thread(
                    self.neighbour.hold, num_bytes, within_s=strength.ramp_s if num_bytes else 0
                )
                await asyncio.sleep(strength.half_period_s - (time.monotonic() - began_s))

    async def leap(self) -> None:
        """Have the neighbour take all that is left, and more, before the daemon can look."""
        await self.until(lambda health: health["running"] > 0)
        daemon = psutil.Process(self.gateway.process.pid)
        daemon.suspend()
        try:
            num_bytes = self.group.left_bytes + OVER_BYTES
            await asyncio.to_thread(self.neighbour.hold, num_bytes, within_s=0)
        finally:
            daemon.resume()
        await self.until(lambda health: health["state"] == "held")

    async def comes_back(self) -> None:
        """Wait until the engine is there again, with its neighbour at peace, and answers."""
        await asyncio.to_thread(self.neighbour.hold, 0, within_s=0)
        await self.until(lambda health: health["state"] == "ready", limit_s=BACK_WITHIN_S)
        status, _ = await asyncio.to_thread(self.gateway.ask, "hello", policy="local", max_tokens=4)
        assert status == 200

    async def until(
        self, condition: Callable[[dict[str, Any]], bool], *, limit_s: float = PATIENCE_S
    ) -> None:
        """Return when health meets `condition`."""
        async with asyncio.timeout(limit_s):
            while not condition(await asyncio.to_thread(self.gateway.health)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)


def own_package(model_home: Path, home: Path) -> None:
    """Copy the model for the gateway alone: a page counts for the group that read it first."""
    copy = shutil.copytree(ModelStore(model_home).package(MODEL), home / "models" / MODEL)
    for path in copy.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@asynccontextmanager
async def site(directory: Path, model_home: Path, strength: Strength) -> AsyncIterator[Site]:
    """Run the gateway under the limit of `strength`, a peer, a broker and the neighbour."""
    home = directory / "home"
    own_package(model_home, home)
    outside = [sys.executable, text_daemon.__file__]
    with (
        memory_group(strength.limit_bytes) as group,
        LocalBroker(directory) as broker,
        serving(outside, directory / "peer", EDGE_AGENT_DAEMON__LOG_LEVEL="error") as peer,
    ):
        attic = {"name": PEER, "kind": "openai", "zone": "site"}
        peers = json.dumps([{**attic, "model": text_daemon.BASE, "url": peer.url}])
        environ = {
            **ENVIRON,
            "EDGE_AGENT_PEERS": peers,
            "EDGE_AGENT_MQTT__URL": broker.url,
            "EDGE_AGENT_JOURNAL__DEFAULT_DEADLINE_S": str(strength.deadline_s),
        }
        with (
            serving(group.joined(SERVE), home, **environ) as gateway,
            Neighbour(group) as neighbour,
        ):
            await asyncio.to_thread(gateway.wait_ready)
            yield Site(gateway, neighbour, broker, group)


async def storm(
    there: Site, trouble: Coroutine[Any, Any, None], strength: Strength, chance: random.Random
) -> list[Outcome]:
    """Ask everything while `trouble` takes its course; return how each request ended."""
    names = [f"r{number:04}" for number in range(strength.requests)]
    requests = requests_of(chance, names)
    by_mail = {name: requests[name] for name in names[::5]}
    by_http = iter([name for name in names if name not in by_mail])
    mail = Mail(there.broker.url, f"edge/v1/{NODE}", by_mail)
    pauses = {name: chance.uniform(0, strength.longest_pause_s) for name in names}

    async def client(session: aiohttp.ClientSession) -> list[Outcome]:
        ended = []
        for name in by_http:
            await asyncio.sleep(pauses[name])
            ended.append(await ask_http(session, there.gateway.url, name, requests[name]))
        return ended

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as session:
        background = [
            asyncio.create_task(there.watch(), name="watch"),
            asyncio.create_task(trouble, name="trouble"),
        ]
        try:
            groups = await asyncio.gather(
                mail.exchange(), *(client(session) for _ in range(strength.clients))
            )
        finally:
            for task in background:
                task.cancel()
            ends = await asyncio.gather(*background, return_exceptions=True)
    assert not [end for end in ends if isinstance(end, Exception)]
    problems = violations(mail.client.history, mail.is_answer)
    assert not problems, explained(mail.client.history, problems)
    return [outcome for group in groups for outcome in group]


@pytest.mark.parametrize(
    "strength",
    [
        pytest.param(FAST, marks=pytest.mark.timeout(180), id="fast"),
        pytest.param(LONG, marks=[pytest.mark.timeout(2400), pytest.mark.long], id="long"),
    ],
)
async def test_every_request_ends_and_the_daemon_lives(
    strength: Strength, model_home: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable, guards nothing
    async with site(tmp_path, model_home, strength) as there:
        began_s = time.monotonic()
        outcomes = await storm(there, there.swing(strength), strength, chance)
        took_s = time.monotonic() - began_s
        figures(there, outcomes, took_s)

        assert there.gateway.process.poll() is None
        assert len(outcomes) == strength.requests
        assert {outcome.kind for outcome in outcomes} >= {LOCAL, PEER}
        assert max(there.seen.lags_s) < MOST_LAG_S
        assert there.seen.most_changes <= 2


@pytest.mark.parametrize(
    "is_awaited",
    [
        pytest.param(False, marks=pytest.mark.timeout(180), id="fast"),
        pytest.param(True, marks=[pytest.mark.timeout(1200), pytest.mark.long], id="long"),
    ],
)
async def test_the_kernel_takes_the_engine_amid_its_work(
    is_awaited: bool, model_home: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable, guards nothing
    async with site(tmp_path, model_home, LEAP) as there:
        # An engine that has read a prompt has memory of its own to give back.
        await asyncio.to_thread(there.gateway.ask, "one two three " * 100, max_tokens=2)
        began_s = time.monotonic()
        outcomes = await storm(there, there.leap(), LEAP, chance)
        figures(there, outcomes, time.monotonic() - began_s)

        assert there.gateway.process.poll() is None
        # While a killed engine hangs in a read of the disk the kernel may look for one more.
        assert there.group.oom_kills - there.neighbour.deaths == 1
        assert len(outcomes) == LEAP.requests
        assert {outcome.kind for outcome in outcomes} >= {PEER}
        await there.until(lambda health: health["state"] == "held")
        if is_awaited:
            await there.comes_back()


def figures(there: Site, outcomes: list[Outcome], took_s: float) -> None:
    """Print what was measured."""
    levels = there.seen.levels
    print(  # noqa: T201
        f"\n{len(outcomes)} requests in {took_s:.0f} s: "
        f"{dict(Counter(outcome.kind for outcome in outcomes))}\n"
        f"kills by the kernel: {there.group.oom_kills}, of neighbours {there.neighbour.deaths}\n"
        f"levels: {' > '.join(levels)}; at most {there.seen.most_changes} changes in ten minutes\n"
        f"available when first seen, MB: "
        f"{ {level: count // 10**6 for level, count in there.seen.least_bytes.items()} }\n"
        # Where the daemon was stopped for a while it is late by that.
        f"loop lag, worst p99 of a minute: {1000 * max(there.seen.lags_s):.1f} ms"
    )
