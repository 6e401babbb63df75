"""A daemon whose engine comes and goes: by order, by idleness, by the kernel; nothing is left."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.daemon_process import Served, serving, until
from tests.operator_client import cycled_kb, key_file, order, slope_kb

TEXT_DAEMON = [sys.executable, str(Path(__file__).parents[1] / "text_daemon.py")]
CYCLES = 15
MOST_SLOPE_KB = 20.0


def num_children(served: Served) -> int:
    return len(psutil.Process(served.process.pid).children())


def test_cycles_of_load_and_unload_leave_nothing_behind(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    with serving(TEXT_DAEMON, tmp_path, EDGE_AGENT_HTTP__ADMIN_KEY_FILE=keys) as served:
        served.wait_ready()
        files = psutil.Process(served.process.pid).num_fds()
        slope = slope_kb(cycled_kb(served, CYCLES))
        print(f"daemon {slope:.1f} kB a cycle")  # noqa: T201  # a figure
        assert slope <= MOST_SLOPE_KB
        assert psutil.Process(served.process.pid).num_fds() <= files
        assert served.health()["engine_restarts"] == 0


def test_a_model_on_demand_is_loaded_by_a_request_and_unloaded_when_idle(tmp_path: Path) -> None:
    with serving(TEXT_DAEMON, tmp_path, EDGE_AGENT_MEMORY__KEEP_ALIVE="0.3") as served:
        served.wait_ready()  # it answers, though nothing is loaded
        health = served.health()
        assert (health["state"], health["status"]) == ("unloaded", "healthy")
        for _ in range(2):
            assert served.ask("one two three")[0] == 200
            until(lambda: served.health()["state"] == "unloaded")
            assert num_children(served) == 0
        assert sum(line.startswith("ready:") for line in served.printed) == 1


@pytest.mark.parametrize("fields", [{"keep_alive": 0}, {"keep_alive": "0s"}])
def test_a_request_may_send_the_model_away(tmp_path: Path, fields: dict[str, object]) -> None:
    with serving(TEXT_DAEMON, tmp_path) as served:
        served.wait_ready()
        assert served.ask("and go", **fields)[0] == 200
        until(lambda: served.health()["state"] == "unloaded")
        assert num_children(served) == 0


def test_admin_verbs_are_off_until_a_key_is_named(tmp_path: Path) -> None:
    with serving(TEXT_DAEMON, tmp_path) as served:
        status, told = order(served, "unload")
        assert status == 403
        assert "http.admin_key_file" in told["error"]
