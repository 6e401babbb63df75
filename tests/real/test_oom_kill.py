"""A real kill by the kernel, in a memory group of its own: the engine goes, the daemon stays."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.daemon_process import serving, until
from tests.real.limited import memory_group
from tests.worker.text_engine import HOARD

pytestmark = pytest.mark.real

TEXT_DAEMON = Path(__file__).parents[1] / "text_daemon.py"
LIMIT_BYTES = 256 << 20


def test_the_kernel_takes_the_engine_and_the_daemon_says_so(tmp_path: Path) -> None:
    with memory_group(LIMIT_BYTES) as group:
        command = group.joined([sys.executable, str(TEXT_DAEMON)])
        with serving(command, tmp_path, EDGE_AGENT_MEMORY__RESERVE="0") as served:
            served.wait_ready()
            daemon = psutil.Process(served.process.pid)
            status, answer = served.ask(f"{HOARD} 2 and then all the others")
            print(status, answer)  # noqa: T201  # what a client is told

            assert status == 503
            assert answer["error"]["code"] in {"engine_crashed", "memory_pressure", "unavailable"}
            assert daemon.is_running()
            until(lambda: served.health()["state"] == "held")
            assert served.health()["memory"]["level"] == "critical"
            assert daemon.children() == []
