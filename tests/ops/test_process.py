"""Whether a process is about to be no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.ops.process import is_ending

if TYPE_CHECKING:
    from pathlib import Path

STATUS = "Name:\tpython3\nState:\t{}\nSigPnd:\t{}\nShdPnd:\t{}\n"
NONE = "0000000000000000"
KILL = "0000000000000100"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (STATUS.format("S (sleeping)", NONE, NONE), False),
        (STATUS.format("Z (zombie)", NONE, NONE), True),
        (STATUS.format("D (disk sleep)", KILL, NONE), True),
        (STATUS.format("T (stopped)", NONE, KILL), True),
        (STATUS.format("S (sleeping)", NONE, "0000000000004200"), False),
        ("State:\tR (running)\n", False),
    ],
)
def test_state_and_pending_signals_tell(tmp_path: Path, status: str, expected: bool) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/status").write_text(status)
    assert is_ending(7, tmp_path) is expected


def test_who_is_gone_has_ended(tmp_path: Path) -> None:
    assert is_ending(7, tmp_path)


def test_a_real_process_that_was_killed_is_ending_before_it_is_reaped() -> None:
    assert not is_ending(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        assert not is_ending(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_ending(process.pid)
