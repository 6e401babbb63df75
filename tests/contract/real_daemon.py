"""The daemon as users start it, with the real model, on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0


@contextmanager
def real_daemon(model_home: Path, state: Path, **environ: str) -> Iterator[str]:
    """Run `edge-agent serve` for the length of the block; yield its URL.

    Models are those of `model_home`; everything the daemon writes goes to `state`.
    """
    (state / "models").symlink_to(model_home / "models", target_is_directory=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "serve"],
        env={
            **os.environ,
            "EDGE_AGENT_HOME": str(state),
            "EDGE_AGENT_HTTP__LISTEN": '["127.0.0.1:0"]',
            **environ,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    impatience = threading.Timer(READY_LIMIT_S, process.kill)
    impatience.start()
    try:
        yield _url_when_ready(process)
    finally:
        impatience.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
    assert code == 0


def _url_when_ready(process: subprocess.Popen[str]) -> str:
    url = ""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"listening on (\S+)", line):
            url = found[1]
        if line.startswith("ready:"):
            return url
    pytest.fail("the daemon ended before it was ready")
