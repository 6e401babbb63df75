"""A server as a child of a runner: started, waited for, asked, and always ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A server that compiles at its start takes a minute on two cores.
_READY_WITHIN_S = 300.0
# The longest prompts take a quarter of an hour.
_ANSWER_WITHIN_S = 3600.0
_END_WITHIN_S = 20.0


class Server:
    """A server that answers."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to `body`."""
        with self._open(path, body) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def get(self, path: str) -> dict[str, Any]:
        """Return what the server tells at `path`."""
        with self._open(path, None) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield when each event of a streamed answer came, in seconds, and what it says."""
        with self._open(path, {**body, "stream": True}) as answer:
            for line in answer:
                at_s = time.perf_counter()
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    yield at_s, json.loads(data)

    def cpu_s(self) -> float:
        """Return the CPU time that the server's family took so far."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        times = [each.cpu_times() for each in family]
        return sum(each.user + each.system for each in times)

    def _open(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)  # noqa: S310  # loopback
        try:
            return urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S)  # noqa: S310
        except urllib.error.HTTPError as exc:
            msg = f"{path}: {exc.code} {exc.read()[:500].decode(errors='replace')}"
            raise RuntimeError(msg) from exc


@contextmanager
def served(command: Sequence[str], environ: Mapping[str, str], port: int) -> Iterator[Server]:
    """Run `command`, which listens on `port`, until the end; it is answering when this begins.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    # Its words go to the log. A group of its own, so that helpers it started end with it.
    process = subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=sys.stderr, start_new_session=True
    )
    try:
        server = Server(process, f"http://127.0.0.1:{port}")
        _await_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await_ready(server: Server) -> None:
    until_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < until_s:
        if (status := server.process.poll()) is not None:
            msg = f"the server ended with {status}; the log says why"
            raise RuntimeError(msg)
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):  # noqa: S310  # loopback
                return
        except OSError:  # not listening yet, or 503 while it loads
            time.sleep(0.2)
    msg = f"the server does not answer within {_READY_WITHIN_S:.0f} s"
    raise RuntimeError(msg)
