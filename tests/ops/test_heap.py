"""Large blocks go back to the system when they are freed, whatever was freed before."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A block below, a small one on top of it, and the one below freed: on the heap its pages stay.
PROBE = """
import psutil
from edge_agent.ops.heap import keep_large_blocks_apart

keep_large_blocks_apart()
bytearray(24 << 20)  # freed at once: from now on glibc would take such blocks from the heap
before = psutil.Process().memory_info().rss
for _ in range(4):
    large = bytearray(b"x") * (8 << 20)
    small = [bytearray(500) for _ in range(1000)]
    del large
print((psutil.Process().memory_info().rss - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they do")
def test_large_blocks_leave_nothing_behind() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    left_mib = int(run.stdout)
    assert left_mib <= 2  # 8 and more without that call
