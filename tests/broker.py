"""A broker of our own for tests: mosquitto where it is installed, else the embedded one of iotcore.

`EDGE_TEST_REQUIRE_MOSQUITTO=1` makes it an error not to have mosquitto;
`EDGE_TEST_BROKER=iotcore` takes the embedded one even so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 20.0
# Debian keeps it where only root's PATH looks.
_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"

_MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 5000
{more}
"""
# rumqttd speaks one version per listener.
_IOTCORE = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 5000
max_segment_size = 104857600
max_segment_count = 10
[{kind}.1]
name = "{kind}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{kind}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20971520
max_inflight_count = 100
dynamic_filters = true
"""
_RUN_IOTCORE = (
    "import sys; from iotcore.iotcore import IotCoreBroker as B; B(sys.argv[1]).run_forever()"
)


def mosquitto() -> str | None:
    """Return the path of mosquitto, or None where the embedded broker serves."""
    found = shutil.which("mosquitto", path=_PLACES)
    if os.environ.get("EDGE_TEST_BROKER") == "iotcore":
        found = None
    if found is None and os.environ.get("EDGE_TEST_REQUIRE_MOSQUITTO") == "1":
        msg = "EDGE_TEST_REQUIRE_MOSQUITTO is set, and mosquitto is not on PATH"
        raise RuntimeError(msg)
    return found


class LocalBroker:
    """A broker process on a loopback port that it keeps over restarts."""

    def __init__(self, directory: Path, *, kind: str = "v5", more: str = "") -> None:
        """Prepare a broker; `kind` is v4 or v5 for the embedded one, `more` is for mosquitto."""
        self.port = _free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        path = directory / "broker.conf"
        if program := mosquitto():
            path.write_text(_MOSQUITTO.format(port=self.port, more=more))
            self._command = [program, "-c", str(path)]
        else:
            path = path.with_suffix(".toml")
            path.write_text(_IOTCORE.format(port=self.port, kind=kind))
            self._command = [sys.executable, "-c", _RUN_IOTCORE, str(path)]
        self._log = directory / "broker.log"

    def start(self) -> Self:
        """Start, and return when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(self._log.read_text(errors="replace"))

    def kill(self) -> None:
        """End it as a power cut would; what it only remembered is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
