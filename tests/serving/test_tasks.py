from __future__ import annotations

import asyncio
import subprocess
import sys

from edge_agent.serving.tasks import EX_SOFTWARE, ended, watched

_BUG = """
import asyncio
from edge_agent.serving.tasks import watched

async def broken():
    raise ValueError("a bug")

async def main():
    task = watched(broken(), "broken")
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_bug_in_a_background_task_ends_the_process() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _BUG], capture_output=True, text=True, check=False
    )

    assert child.returncode == EX_SOFTWARE
    assert "task=broken" in child.stderr
    assert "ValueError: a bug" in child.stderr


async def test_ending_waits_for_what_a_task_has_to_tidy_up() -> None:
    tidy: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidy.append("done")

    task = watched(work(), "work")
    await asyncio.sleep(0)
    await ended(task, None)

    assert tidy == ["done"]
