"""What the whole daemon costs while nobody asks, and after somebody asked too much."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.broker import LocalBroker
from tests.daemon_process import Served, anonymous_mb, fetch, serving, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

SERVE = [sys.executable, "-m", "edge_agent", "serve"]
IDLE_LIMIT_MB = 60
# Two bodies of a megabyte on their way out; what the heap used to keep of them was 3 to 6 MB.
SLACK_MB = 2.5
IDLE_S = 5.0
# Two beats a second, a look at the state of MQTT, a tick of the jobs: a few wake-ups a second.
MOST_BUSY_S = 0.05 * IDLE_S
# 30 layers x 2 x 3 heads x 64 x 4 B = 45 KiB of cache a token.
PROMPT = "word " * 1500
CACHE_MB = 60


@pytest.fixture(scope="module")
def daemon(model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(model_home / "models")
    few = {"EDGE_AGENT_ENGINE__PREFIX_BYTES": "8MiB"}  # of what a request leaves behind
    with (
        LocalBroker(tmp_path_factory.mktemp("broker")) as broker,
        serving(SERVE, home, EDGE_AGENT_MQTT__URL=broker.url, **few) as daemon,
    ):
        daemon.wait_ready()
        daemon.ask("warm up", max_tokens=2)
        until(lambda: daemon.health()["mqtt"] == "connected")
        yield daemon


def test_an_idle_daemon_on_both_wires_is_small(daemon: Served) -> None:
    rss_mb = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
    print(f"daemon {rss_mb:.1f} MB")  # noqa: T201  # a figure
    assert rss_mb <= IDLE_LIMIT_MB


def test_an_idle_daemon_and_its_engine_rest(daemon: Served) -> None:
    processes = [psutil.Process(daemon.process.pid), daemon.engine()]
    before_s = [busy_s(process) for process in processes]
    threading.Event().wait(IDLE_S)  # the one thing that is measured here is a time of nothing
    for process, began_s, name in zip(processes, before_s, ("daemon", "engine"), strict=True):
        spent_s = busy_s(process) - began_s
        print(f"{name} {spent_s / IDLE_S:.2%} of a core")  # noqa: T201  # a figure
        assert spent_s < MOST_BUSY_S


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def test_a_client_that_left_leaves_no_more_memory_taken_than_prefixes_may(
    daemon: Served,
) -> None:
    engine = daemon.engine()
    before_mb = anonymous_mb(engine)
    body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True, "temperature": 0}
    headers = {"Content-Type": "application/json"}
    url = f"{daemon.url}/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=60) as stream:  # noqa: S310  # loopback
        until(lambda: anonymous_mb(engine) > before_mb + CACHE_MB)
        assert stream.readline()
    until(lambda: anonymous_mb(engine) < before_mb + CACHE_MB / 3)
    assert daemon.health()["running"] == 0


def test_large_bodies_leave_no_memory_behind(daemon: Served) -> None:
    url = f"{daemon.url}/v1/chat/completions"
    headers = {"Content-Type": "application/json"}
    process = psutil.Process(daemon.process.pid)
    before_mb = process.memory_info().rss / 1e6
    for body in (b"x" * (10 << 20), b'{"messages": "%s"}' % (b"x" * 900_000)) * 5:
        status, _ = fetch(urllib.request.Request(url, body, headers))  # noqa: S310  # loopback
        assert status in {400, 413}
    rss_mb = process.memory_info().rss / 1e6
    print(f"daemon after large bodies {rss_mb:.1f} MB")  # noqa: T201  # a figure
    assert rss_mb <= before_mb + SLACK_MB
