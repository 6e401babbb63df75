"""The daemon as a client on this machine sees it, and the patience such a client needs."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Booting, stopping and the watchdog take their time on a busy machine; polls end far earlier.
PATIENCE_S = 90.0
POLL_S = 0.2


def until(true: Callable[[], object], what: str, limit_s: float = PATIENCE_S) -> None:
    """Return as soon as `true()` is; fail when it is not within `limit_s`."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(POLL_S)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


class LocalApi:
    """HTTP on a loopback port, with the API key."""

    def __init__(self, port: int, api_key: str) -> None:
        self.port = port
        self.api_key = api_key

    def health(self) -> dict[str, Any]:
        """Return what /health tells; {} when nothing listens."""
        try:
            return self._fetch("/health", None)
        except OSError:
            return {}

    def state(self) -> str:
        """Return the state of the engine by /health; "" when nothing listens."""
        return str(self.health().get("state", ""))

    def serves(self) -> bool:
        """Whether the model answers."""
        return self.state() == "ready"

    def ask(self, prompt: str, *, max_tokens: int) -> dict[str, Any]:
        """Return the greedy chat completion for `prompt`."""
        message = {"role": "user", "content": prompt}
        body = {"messages": [message], "max_tokens": max_tokens, "temperature": 0}
        return self._fetch("/v1/chat/completions", json.dumps(body).encode())

    def _fetch(self, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with closing(connection):
            connection.request("POST" if body else "GET", path, body, headers)
            told: dict[str, Any] = json.load(connection.getresponse())
        return told
