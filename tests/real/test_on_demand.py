"""Real weights come and go: their memory returns at once, and nothing stays in the daemon."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.daemon_process import Served, anonymous_mb, serving
from tests.operator_client import cycled_kb, key_file, order, slope_kb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

SERVE = [sys.executable, "-m", "edge_agent", "serve"]
CYCLES = 50
MOST_SLOPE_KB = 20.0


@pytest.fixture
def daemon(model_home: Path, tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "models").symlink_to(model_home / "models")
    keys = key_file(tmp_path)
    with serving(SERVE, tmp_path, EDGE_AGENT_HTTP__ADMIN_KEY_FILE=keys) as daemon:
        daemon.wait_ready()
        yield daemon


def unit_mb(served: Served) -> float:
    daemon = psutil.Process(served.process.pid)
    return sum(anonymous_mb(process) for process in (daemon, *daemon.children()))


def test_an_unload_returns_all_memory_but_the_daemons_own(daemon: Served) -> None:
    answer = daemon.ask("What is the capital of France?", temperature=0)[1]["choices"]
    loaded_mb = unit_mb(daemon)
    status, told = order(daemon, "unload")
    left_mb = unit_mb(daemon)
    print(f"loaded {loaded_mb:.1f} MB, unloaded {left_mb:.1f} MB")  # noqa: T201  # a figure

    assert (status, told["state"]) == (200, "unloaded")
    assert psutil.Process(daemon.process.pid).children() == []
    assert left_mb == pytest.approx(anonymous_mb(psutil.Process(daemon.process.pid)), abs=1)
    assert left_mb < loaded_mb
    assert daemon.ask("What is the capital of France?", temperature=0)[1]["choices"] == answer


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_cycles_leak_nothing(daemon: Served) -> None:
    slope = slope_kb(cycled_kb(daemon, CYCLES))
    print(f"daemon {slope:.1f} kB a cycle")  # noqa: T201  # a figure
    assert slope <= MOST_SLOPE_KB
