"""The daemon as a process: what it promises to a terminal, to systemd and to its clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.daemon_process import PATIENCE_S, Manager, Served, serving, until

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

TEXT_DAEMON = Path(__file__).parents[1] / "text_daemon.py"
IDLE_LIMIT_MB = 60
SLOW = "--pace-s=0.02"
LONG = " ".join(str(i) for i in range(900))
HEAVY = ("numpy", "onnxruntime", "tokenizers", "jinja2", "onnx", "edge_agent.engine")


def text_daemon(
    home: Path, *arguments: str, **environ: str
) -> contextlib.AbstractContextManager[Served]:
    return serving([sys.executable, str(TEXT_DAEMON), *arguments], home, **environ)


def test_the_daemon_process_loads_no_model_library() -> None:
    probe = "import edge_agent.daemon.main, edge_agent.cli, sys; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = run.stdout.split()
    assert "edge_agent.transports.http.server" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_it_says_where_it_listens_and_how_to_try_it(tmp_path: Path) -> None:
    with text_daemon(tmp_path) as daemon:
        daemon.wait_ready()
        until(lambda: any("curl" in line for line in daemon.printed))
        [example] = [line for line in daemon.printed if "curl" in line]
        answer = subprocess.run(
            ["/bin/sh", "-c", example.replace("curl", "curl -sS")],
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
        )
    text = json.loads(answer.stdout)["choices"][0]["message"]["content"]
    assert text.startswith("0:blue?")


def test_an_idle_daemon_is_small(tmp_path: Path) -> None:
    with text_daemon(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.ask("one two")
        rss_mb = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
    assert rss_mb <= IDLE_LIMIT_MB


def test_a_killed_engine_is_an_error_to_its_client_and_then_history(tmp_path: Path) -> None:
    with text_daemon(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        answer = daemon.ask_aside(LONG)
        until(lambda: bool(daemon.health()["running"]))
        daemon.engine().kill()
        status, body = answer()
        assert (status, body["error"]["code"]) == (503, "engine_crashed")
        assert daemon.ask("again")[0] == 200
        assert daemon.health()["engine_restarts"] == 1


def test_sigterm_lets_answers_finish_takes_no_new_ones_and_exits_0(tmp_path: Path) -> None:
    with text_daemon(tmp_path, "--pace-s=0.005", EDGE_AGENT_DAEMON__DRAIN_S="30") as daemon:
        daemon.wait_ready()
        answer = daemon.ask_aside(LONG)
        until(lambda: bool(daemon.health()["running"]))
        engine = daemon.engine()
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: daemon.health()["state"] == "draining")
        status, body = daemon.ask("too late")
        assert (status, body["error"]["code"]) == (503, "draining")
        assert answer()[1]["choices"][0]["message"]["content"].endswith("899:0 ")
        assert daemon.ended() == 0
        assert not engine.is_running()


def test_what_outlasts_the_drain_is_told_so(tmp_path: Path) -> None:
    with text_daemon(tmp_path, SLOW, EDGE_AGENT_DAEMON__DRAIN_S="0.2") as daemon:
        daemon.wait_ready()
        answer = daemon.ask_aside(LONG)
        until(lambda: bool(daemon.health()["running"]))
        daemon.process.send_signal(signal.SIGTERM)
        status, body = answer()
        assert (status, body["error"]["code"]) == (503, "draining")
        assert daemon.ended() == 0


def test_a_second_interrupt_ends_at_once_and_leaves_no_engine(tmp_path: Path) -> None:
    with text_daemon(tmp_path, SLOW, EDGE_AGENT_DAEMON__DRAIN_S="600") as daemon:
        daemon.wait_ready()
        daemon.ask_aside(LONG)
        until(lambda: bool(daemon.health()["running"]))
        engine = daemon.engine()
        daemon.process.send_signal(signal.SIGINT)
        until(lambda: daemon.health()["state"] == "draining")
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.ended() == 130
        until(lambda: not engine.is_running())


def test_a_killed_daemon_takes_its_engine_along(tmp_path: Path) -> None:
    with text_daemon(tmp_path) as daemon:
        daemon.wait_ready()
        engine = daemon.engine()
        daemon.process.kill()
        until(lambda: not engine.is_running())


def test_sighup_changes_nothing(tmp_path: Path) -> None:
    with text_daemon(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.ask("still there")[0] == 200


def test_two_daemons_do_not_share_a_state_directory(tmp_path: Path) -> None:
    with text_daemon(tmp_path) as daemon:
        second = serve_in_vain(tmp_path, "[]")
        assert f"pid {daemon.process.pid}" in second.stderr


def test_a_taken_port_is_one_line_and_status_2(tmp_path: Path) -> None:
    with text_daemon(tmp_path / "a") as daemon:
        address = daemon.url.removeprefix("http://")
        second = serve_in_vain(tmp_path / "b", f"[{address}]")
        assert f"cannot bind {address}" in second.stderr


def test_nobody_reading_its_output_does_not_end_it(tmp_path: Path) -> None:
    port = free_port()
    env = os.environ | {"EDGE_AGENT_HOME": str(tmp_path)}
    env["EDGE_AGENT_HTTP__LISTEN"] = f"[127.0.0.1:{port}]"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(TEXT_DAEMON)]
    with subprocess.Popen(command, env=env, stdout=writer, text=True) as process:
        os.close(writer)
        daemon = Served(process, f"http://127.0.0.1:{port}")
        until(daemon.is_up)
        assert daemon.ask("still there")[0] == 200
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def serve_in_vain(home: Path, listen: str) -> subprocess.CompletedProcess[str]:
    """Run the real daemon where it cannot start; it says why in one line."""
    run = subprocess.run(
        [sys.executable, "-m", "edge_agent", "serve"],
        env=os.environ | {"EDGE_AGENT_HOME": str(home), "EDGE_AGENT_HTTP__LISTEN": listen},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert [line for line in run.stderr.splitlines() if line.startswith("edge-agent: ")]
    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_systemd_hears_of_readiness_state_and_stop(tmp_path: Path, manager: Manager) -> None:
    notices = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with text_daemon(tmp_path / "home", **notices) as daemon:
        manager.hear("READY=1")
        assert daemon.health()["status"]  # HTTP answers before anybody is told
        manager.hear("STATUS=ready: serving text")
        for _ in range(3):
            manager.hear("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert int(manager.hear("EXTEND_TIMEOUT_USEC=").split("=")[1]) >= 10_000_000
        assert daemon.ended() == 0
