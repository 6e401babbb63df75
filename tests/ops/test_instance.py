"""One daemon per state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ConfigError
from edge_agent.ops.instance import only_instance

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, pathlib
from edge_agent.ops.instance import only_instance
with only_instance(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_daemon_learns_who_holds_the_directory(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"pid {holder.pid}"), only_instance(home):
            pass
        holder.kill()
    with only_instance(home):  # the kernel gave it back
        assert (home / "daemon.lock").read_text() == str(os.getpid())


def test_the_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    with only_instance(tmp_path / "home"):
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_is_an_error_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="Not a directory"),
        only_instance(tmp_path / "file" / "x"),
    ):
        pass
