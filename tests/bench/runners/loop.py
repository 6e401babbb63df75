"""The child's side of a race: a line of JSON in, a line of JSON out. Plain Python, as `task`.

The first line out is `{"ready": facts}`; then each task is answered by `{"figures": …}` or
`{"error": …}`. Between tasks the child waits in a read, which costs nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol

from tests.bench.runners.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.bench.runners.task import Figures


class Runner(Protocol):
    """A loaded model."""

    facts: dict[str, Any]
    """What there is to know of it: version, and what loading took."""

    def run(self, task: Task) -> Figures:
        """Do `task` once and return its figures."""


def serve(make: Callable[[dict[str, Any]], AbstractContextManager[Runner]]) -> None:
    """Answer the tasks on standard input with the runner made of the options in `argv[1]`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, which ends servers too
    # Libraries print as they like: what they print goes to the log.
    with os.fdopen(os.dup(1), "w", buffering=1) as wire:
        os.dup2(2, 1)
        with make(json.loads(sys.argv[1])) as runner:
            wire.write(json.dumps({"ready": runner.facts}) + "\n")
            for line in sys.stdin:
                wire.write(json.dumps(_answer(runner, line)) + "\n")


def _answer(runner: Runner, line: str) -> dict[str, Any]:
    try:
        return {"figures": runner.run(Task(**json.loads(line)))}
    except Exception as exc:  # noqa: BLE001  # whatever it is, the race tells it and goes on
        return {"error": f"{type(exc).__name__}: {exc}"}
