"""Keeps contestants loaded between their turns: one process each, of which one computes."""

from __future__ import annotations

import dataclasses
import json
import select
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import psutil

from tests.bench.contestant import to_rest
from tests.bench.huge_pages import read_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.contestant import Contestant
    from tests.bench.huge_pages import Pages
    from tests.bench.runners.task import Figures, Task

ROOT = Path(__file__).parents[2]
# A prompt of 32,768 tokens takes ten minutes on two cores.
_ANSWER_WITHIN_S = 3600.0
_END_WITHIN_S = 30.0


class RunnerFailed(Exception):
    """A runner could not do what it was asked."""


class Stable:
    """The loaded contestants, as many as memory has room for."""

    def __init__(
        self,
        *,
        room_bytes: int,
        logs: Path,
        started_as: Callable[[Sequence[str]], Sequence[str]] = list,
    ) -> None:
        """Keep contestants of `room_bytes` together; what they print goes into files in `logs`.

        `started_as` makes of a command the one that is run instead, as in a group of its own.
        """
        self._room_bytes = room_bytes
        self._logs = logs
        self._started_as = started_as
        self._loaded: dict[Contestant, _Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for contestant in list(self._loaded):
            self._unload(contestant)

    def run(self, contestant: Contestant, task: Task) -> Figures:
        """Have `contestant` do `task`, and load it first if need be.

        Raises:
            RunnerFailed: it cannot be loaded, or not do this; it is unloaded if it ended.
        """
        child = self.loaded(contestant)
        try:
            told = child.ask(dataclasses.asdict(task))
        except RunnerFailed:
            self._unload(contestant)
            raise
        if "error" in told:
            raise RunnerFailed(told["error"])
        figures: Figures = told["figures"]
        return figures

    def loaded(self, contestant: Contestant) -> _Child:
        """Return the process of `contestant`, which is the last used from now on.

        Raises:
            RunnerFailed: it does not start.
        """
        child = self._loaded.pop(contestant, None)
        if child is None:
            for each in to_rest(list(self._loaded), contestant, room_bytes=self._room_bytes):
                self._unload(each)
            child = _Child(contestant, self._logs, self._started_as)
        self._loaded[contestant] = child
        return child

    def facts(self, contestant: Contestant) -> dict[str, Any]:
        """Return what the runner told of itself when it was loaded."""
        return self._loaded[contestant].facts

    def refresh(self, contestant: Contestant) -> None:
        """Unload `contestant`, so that its next turn begins anew."""
        if contestant in self._loaded:
            self._unload(contestant)

    def others_cpu_s(self, contestant: Contestant) -> float:
        """Return the CPU time that all others took so far: idle, they should take none."""
        others = (child for each, child in self._loaded.items() if each != contestant)
        return sum(child.cpu_s() for child in others)

    def pages(self, contestant: Contestant) -> Pages | None:
        """Return how the memory of `contestant` lies now; None: the system does not tell.

        That of the largest of its processes, in which a server has its model.
        """
        return self._loaded[contestant].pages()

    def _unload(self, contestant: Contestant) -> None:
        self._loaded.pop(contestant).close()


class _Child:
    """A runner's process."""

    def __init__(
        self,
        contestant: Contestant,
        logs: Path,
        started_as: Callable[[Sequence[str]], Sequence[str]],
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        module = f"tests.bench.runners.{contestant.runner}"
        name = contestant.name.replace(" ", "-").replace("/", "-")
        with (logs / f"{name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                started_as([contestant.python, "-m", module, contestant.options_json]),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            told = self._told()
        except RunnerFailed as exc:
            self.close()
            msg = f"{exc} while it was loaded; {log.name} says more"
            raise RunnerFailed(msg) from exc
        self.facts: dict[str, Any] = told["ready"]

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send a line and return the answer.

        Raises:
            RunnerFailed: there is none.
        """
        try:
            print(json.dumps(body), file=self._pipe(self._process.stdin), flush=True)
        except BrokenPipeError as exc:
            raise RunnerFailed(self._end()) from exc
        return self._told()

    def cpu_s(self) -> float:
        """Return the CPU time of the process and its children until now."""
        times = [each.cpu_times() for each in self._family()]
        return sum(each.user + each.system for each in times)

    def pages(self) -> Pages | None:
        """Return how the memory of the largest process of the family lies now, if that is known."""
        try:
            return read_pages(max(self._family(), key=lambda each: each.memory_info().rss).pid)
        except (psutil.Error, OSError, ValueError):  # one that ends meanwhile, an older kernel
            return None

    def close(self) -> None:
        """End it: it ends by itself when there is nothing more to read, and ends its server."""
        self._pipe(self._process.stdin).close()
        for insist in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                insist()
        self._process.wait()
        self._pipe(self._process.stdout).close()

    def _told(self) -> dict[str, Any]:
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], _ANSWER_WITHIN_S)[0]:
            self._process.terminate()
            msg = f"no answer within {_ANSWER_WITHIN_S:.0f} s"
            raise RunnerFailed(msg)
        line = pipe.readline()
        if not line:
            raise RunnerFailed(self._end())
        told: dict[str, Any] = json.loads(line)
        return told

    def _end(self) -> str:
        return f"it ended with {self._process.wait(_END_WITHIN_S)}"

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None  # both are asked for above
        return pipe
