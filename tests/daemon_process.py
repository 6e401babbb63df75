"""A daemon as a process of its own, and how tests speak to it and listen for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

PATIENCE_S = 60.0


class Served:
    """A running daemon and how to speak to it."""

    def __init__(self, process: subprocess.Popen[str], url: str = "") -> None:
        self.process = process
        self.url = url
        self.printed: list[str] = []
        self.is_ready = threading.Event()
        self.is_listening = threading.Event()
        if process.stdout:
            threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.printed.append(line.rstrip("\n"))
            if found := re.match(r"listening on (\S+)", line):
                self.url = found[1]
                self.is_listening.set()
            if line.startswith("ready:"):
                self.is_ready.set()

    def wait_ready(self) -> None:
        assert self.is_ready.wait(PATIENCE_S), self.printed

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def ask(self, prompt: str, **fields: object) -> tuple[int, dict[str, Any]]:
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({"messages": messages, **fields}).encode()
        headers = {"Content-Type": "application/json"}
        url = f"{self.url}/v1/chat/completions"
        return fetch(urllib.request.Request(url, body, headers))  # noqa: S310  # loopback

    def ask_aside(self, prompt: str, **fields: object) -> Callable[[], tuple[int, dict[str, Any]]]:
        """Ask in a thread; the result waits for the answer, if the daemon lives to give it."""
        answers: list[tuple[int, dict[str, Any]]] = []

        def ask() -> None:
            with contextlib.suppress(OSError):
                answers.append(self.ask(prompt, **fields))

        asker = threading.Thread(target=ask, daemon=True)
        asker.start()

        def answer() -> tuple[int, dict[str, Any]]:
            asker.join(PATIENCE_S)
            return answers[0]

        return answer

    def is_up(self) -> bool:
        """Whether HTTP answers."""
        try:
            return bool(self.health())
        except OSError:
            return False

    def health(self) -> dict[str, Any]:
        return fetch(urllib.request.Request(f"{self.url}/health"))[1]  # noqa: S310  # loopback

    def engine(self) -> psutil.Process:
        [engine] = psutil.Process(self.process.pid).children()
        return engine


def fetch(request: urllib.request.Request) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310  # loopback
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def anonymous_mb(process: psutil.Process) -> float:
    """Return the memory of `process` that is not backed by files, MB."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  # procfs
        [line] = [line for line in status if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def serving(command: Sequence[str], home: Path, **environ: str) -> Iterator[Served]:
    """Run the daemon `command` with its state in `home` and HTTP on a free port."""
    env = os.environ | {"EDGE_AGENT_HOME": str(home), "EDGE_AGENT_HTTP__LISTEN": "[127.0.0.1:0]"}
    with subprocess.Popen(command, env=env | environ, stdout=subprocess.PIPE, text=True) as process:
        served = Served(process)
        try:
            assert served.is_listening.wait(PATIENCE_S), served.printed
            yield served
        finally:
            process.kill()


class Manager:
    """Stands in for systemd: hears the notices of a daemon."""

    def __init__(self, path: Path) -> None:
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(path))
        self._ear.settimeout(PATIENCE_S)
        self._lines: deque[str] = deque()

    def hear(self, start: str) -> str:
        """Return the next line that starts with `start`."""
        while True:
            if not self._lines:
                self._lines.extend(self._ear.recv(4096).decode().split("\n"))
            line = self._lines.popleft()
            if line.startswith(start):
                return line

    def close(self) -> None:
        self._ear.close()
