"""What the timers of all engines have in common. Plain Python, as `task`."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from tests.bench.runners.procfs import memory_mb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.runners.task import Figures, Task

# The first steps pay for buffers that all others reuse.
_WARM_UP_TOKENS = 16


class Timer(ABC):
    """Times one loaded model. Its public methods that take a task alone are the kinds of tasks."""

    def __init__(self, facts: dict[str, Any], *, pid: int | str = "self") -> None:
        """Time a model that has just been loaded, in the process `pid`."""
        self.facts = facts
        self._pid = pid
        self._loaded = memory_mb(pid)
        self._seeds = 0
        self._is_warm = False

    @abstractmethod
    def read(self, prompt: Sequence[int]) -> float:
        """Return the seconds that `prompt` takes up to its first token.

        What the engine knows of its beginning, it may use.
        """

    def run(self, task: Task) -> Figures:
        """Do `task` once.

        Raises:
            ValueError: this engine is not timed at that.
        """
        kind = getattr(self, task.kind, None)
        if kind is None:
            msg = f"{task.kind} is not timed here"
            raise ValueError(msg)
        if not self._is_warm and task.kind != "memory":
            self.read(self.new_prompt(task, _WARM_UP_TOKENS))
            self._is_warm = True
        figures: Figures = kind(task)
        return figures

    def prefill(self, task: Task) -> Figures:
        """Time the reading of prompts that nobody has read."""
        prompts = [self.new_prompt(task, task.tokens) for _ in range(task.reps)]
        return {"tok_s": task.tokens / statistics.median(map(self.read, prompts))}

    def ttft(self, task: Task) -> Figures:
        """Time a system prompt with a question, then with another question."""
        system = self.new_prompt(task, task.tokens)
        cold_s, warm_s = (self.read([*system, *self.new_prompt(task, task.tail)]) for _ in range(2))
        return {"cold_s": cold_s, "warm_s": warm_s}

    def memory(self, task: Task) -> Figures:
        """Tell what was taken by loading, and what is taken after the first prompt."""
        self.read(self.new_prompt(task, task.tokens))
        loaded = {f"loaded_{name}": value for name, value in self._loaded.items()}
        return loaded | {f"read_{name}": value for name, value in memory_mb(self._pid).items()}

    def new_prompt(self, task: Task, tokens: int) -> list[int]:
        """Return a prompt that begins like none before."""
        self._seeds += 1
        return task.prompt(self._seeds, tokens)
