"""Runs a program that dies with its parent: `python -m edge_agent.modelstore.leash PARENT ARGV…`.

A parent that is killed cannot stop its children; the kernel can. The wrapper asks for that and
then becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def leashed(argv: list[str]) -> list[str]:
    """Return the command line that runs `argv` and ends it when the calling process ends."""
    return [sys.executable, "-m", "edge_agent.modelstore.leash", str(os.getpid()), *argv]


def main() -> None:
    """Ask to be killed with the parent, then become the program."""
    parent, *argv = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it died before we could ask
        sys.exit(1)
    os.execv(argv[0], argv)  # noqa: S606  # the program our parent chose, without a shell


if __name__ == "__main__":
    main()
