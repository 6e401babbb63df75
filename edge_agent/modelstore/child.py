"""Runs one child program to its end, on a leash, with its complaints kept for the error message."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ModelError
from edge_agent.modelstore.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_LOOK_INTERVAL_S = 0.1
_STOP_LIMIT_S = 3.0
# The end of what a program said is where the reason is.
_TAIL_BYTES = 8192


class Child:
    """How children of one preparation run: where their output goes, and what they keep open."""

    def __init__(self, directory: Path, *, lock_fd: int, environ: Mapping[str, str]) -> None:
        """`lock_fd` stays open in each child, so that the lock outlives a killed parent."""
        self._directory = directory
        self._lock_fd = lock_fd
        self._environ = environ

    def run(self, what: str, argv: list[str], look: Callable[[], None]) -> str:
        """Run `argv` in our directory and wait; `look` is called now and then, and at the end.

        Returns the end of what it printed.

        Raises:
            ModelError: it failed; the sentence names `what` and ends with its last words.
        """
        # In memory: what it says last may be that the disk is full.
        said = os.memfd_create(what, os.MFD_CLOEXEC)
        try:
            status = self._wait(argv, said, look)
            if status != 0:
                msg = f"{what} {_ending(status)}: {_last_words(said)}"
                raise ModelError(msg)
            told = _tail(said)
        finally:
            os.close(said)
        look()
        return told

    def _wait(self, argv: list[str], said: int, look: Callable[[], None]) -> int:
        process = subprocess.Popen(
            leashed(argv),
            cwd=self._directory,
            env=dict(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(self._lock_fd,),
        )
        try:
            while _is_running(process):
                look()
        finally:
            _end(process)
        return process.returncode


def _is_running(process: subprocess.Popen[Any]) -> bool:
    try:
        process.wait(_LOOK_INTERVAL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ending(status: int) -> str:
    return f"failed ({status})" if status > 0 else f"was killed by signal {-status}"


def _last_words(said: int) -> str:
    """Return why a program failed: its errors if it names them so, else its last line."""
    text = _tail(said)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # pip heads a trace with an empty error; its last line then tells.
    errors = [line for line in lines if line.startswith("ERROR: ") and not line.endswith(":")]
    words = " / ".join(errors or lines[-1:]) or "it said nothing"
    # pip ends with "no matching distribution" when it could not even ask.
    return f"no connection ({words})" if "connection broken" in text else words


def _tail(said: int) -> str:
    start = max(0, os.fstat(said).st_size - _TAIL_BYTES)
    return os.pread(said, _TAIL_BYTES, start).decode(errors="replace")
