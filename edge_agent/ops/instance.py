"""One daemon per state directory: a lock that the kernel drops with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "daemon.lock"
PRIVATE_DIR = 0o700  # prompts and answers lie in there


@contextlib.contextmanager
def only_instance(home: Path) -> Iterator[None]:
    """Hold `home` for this process; it is created, for its owner alone, if missing.

    Raises:
        ConfigError: it cannot be written, or another daemon holds it.
    """
    try:
        home.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        lock = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        problem = f"the state directory cannot be used: {exc.strerror}"
        raise ConfigError(str(home), problem) from exc
    try:
        _take(lock, home)
        yield
    finally:
        os.close(lock)


def _take(lock: int, home: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        problem = f"another edge-agent daemon (pid {holder}) uses this state directory"
        raise ConfigError(str(home), problem) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
