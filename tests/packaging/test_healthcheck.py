"""The image's health check, run as the container engine runs it: a process with an exit code."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "container" / "healthcheck.py"


@contextmanager
def health(status: int) -> Iterator[str]:
    """Serve `status` on a loopback port; the value is the address to ask."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"state": "scripted"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as inherited
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/health"
        finally:
            server.shutdown()
            thread.join()


def check(address: str) -> subprocess.CompletedProcess[str]:
    # A proxy that leads nowhere: the check must not take it.
    environ = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-I", str(SCRIPT), address]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (500, 1), (404, 1)])
def test_the_check_passes_only_when_the_daemon_says_so(status: int, code: int) -> None:
    with health(status) as address:
        done = check(address)

    assert done.returncode == code
    assert "scripted" in done.stdout


def test_a_daemon_that_does_not_answer_fails_the_check_with_a_reason() -> None:
    with health(200) as address:
        pass

    done = check(address)

    assert done.returncode == 1
    assert "does not answer" in done.stdout
    assert not done.stderr
