"""`edge-agent serve` with the real model: first answer, killed engine, memory, drain."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.daemon_process import Served, anonymous_mb, serving, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

SERVE = [sys.executable, "-m", "edge_agent", "serve"]
IDLE_LIMIT_MB = 60
STORY = "Tell me a very long story about a lighthouse."


@pytest.fixture
def daemon(model_home: Path, tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "models").symlink_to(model_home / "models")
    with serving(SERVE, tmp_path) as served:
        served.wait_ready()
        yield served


def test_it_answers_and_stays_small(daemon: Served) -> None:
    status, body = daemon.ask("What is gravity?", temperature=0, max_tokens=16)
    assert status == 200
    assert "ravity" in body["choices"][0]["message"]["content"]
    assert psutil.Process(daemon.process.pid).memory_info().rss / 1e6 <= IDLE_LIMIT_MB


def test_a_killed_engine_serves_again(daemon: Served) -> None:
    answer = daemon.ask_aside(STORY, temperature=0)
    until(lambda: bool(daemon.health()["running"]))
    daemon.engine().kill()
    status, body = answer()
    assert (status, body["error"]["code"]) == (503, "engine_crashed")
    status, body = daemon.ask("What is gravity?", temperature=0, max_tokens=16)
    assert "ravity" in body["choices"][0]["message"]["content"]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(daemon: Served) -> None:
    status, body = daemon.ask("a b " * 200_000, max_tokens=1)
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert "the limit is 4095" in body["error"]["message"]


def test_the_memory_of_a_long_prompt_is_given_back(model_home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(model_home / "models")
    # What is kept for prompts that begin alike is given back when memory is short, or never kept.
    with serving(SERVE, tmp_path, EDGE_AGENT_ENGINE__PREFIX_BYTES="0") as daemon:
        daemon.wait_ready()
        daemon.ask("warm up", max_tokens=1)
        before_mb = anonymous_mb(daemon.engine())
        answer = daemon.ask_aside("word " * 1500, temperature=0, max_tokens=4)
        # 30 layers x 2 x 3 heads x 64 x 4 B = 45 KiB of cache a token: 69 MB for this prompt.
        until(lambda: anonymous_mb(daemon.engine()) > before_mb + 45)
        assert answer()[0] == 200
        until(lambda: anonymous_mb(daemon.engine()) < before_mb + 25)


def test_sigterm_drains_and_exits_0(daemon: Served) -> None:
    answer = daemon.ask_aside(STORY, temperature=0, max_tokens=60)
    until(lambda: bool(daemon.health()["running"]))
    engine = daemon.engine()
    daemon.process.send_signal(signal.SIGTERM)
    assert answer()[0] == 200
    assert daemon.ended() == 0
    assert not engine.is_running()
