"""A daemon that is killed and started again, with what it keeps between its lives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Self

import psutil

from tests.daemon_process import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class MortalDaemon:
    """One state directory and, mostly, a daemon that serves from it."""

    def __init__(self, command: Sequence[str], home: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self._command = command
        own = {"EDGE_AGENT_HOME": str(home), "EDGE_AGENT_HTTP__LISTEN": "[]"}
        self._environ = {**os.environ, **own, **environ}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The life that is led now, or was last."""
        assert self._process is not None
        return self._process

    @property
    def is_alive(self) -> bool:
        """Whether the daemon has not ended."""
        return self.process.poll() is None

    def start(self) -> None:
        """Start it, and do not wait."""
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdout=subprocess.DEVNULL,
            # Its own session: what is aimed at it reaches nobody else.
            start_new_session=True,
        )

    def kill_all(self) -> None:
        """SIGKILL the daemon and its engine, the daemon first: it shall not see its child die."""
        engines = self._engines()
        self.process.kill()
        _kill(engines)
        self.process.wait()

    def kill_engine(self) -> None:
        """SIGKILL the engine alone, once there is one."""
        until(lambda: bool(self._engines()))
        _kill(self._engines())

    def stop(self) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def _engines(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
