"""onnxruntime-genai, in an interpreter that has it: `python -m tests.bench.runners.genai OPTIONS`.

Options: `model` (its directory), `context`, `threads`. Plain Python beside the library itself.
"""

from __future__ import annotations

import json
import statistics
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.bench.runners.loop import serve
from tests.bench.runners.procfs import memory_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.runners.task import Figures, Task

_WARM_UP_TOKENS = 16


class GenAi:
    """A loaded model directory."""

    def __init__(self, options: dict[str, Any]) -> None:
        began_s = time.perf_counter()
        # By name: the library is not in the environment that checks types.
        self._og: Any = import_module("onnxruntime_genai")
        config = self._og.Config(options["model"])
        # Its default is half of the processors that it sees.
        threads = {"intra_op_num_threads": options["threads"], "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        self._model = self._og.Model(config)
        self._loaded = memory_mb()
        self._params = self._og.GeneratorParams(self._model)
        context = options["context"]
        # A least length is its way not to stop early.
        self._params.set_search_options(do_sample=False, max_length=context, min_length=context)
        self._generator: Any = None
        self._held_tokens = 0
        self._seeds = 0
        self._is_warm = False
        self.facts = {
            "onnxruntime_genai": self._og.__version__,
            "load_s": round(time.perf_counter() - began_s, 2),
        }

    def run(self, task: Task) -> Figures:
        """Do `task` once."""
        if not self._is_warm and task.kind != "memory":
            self._read(task, _WARM_UP_TOKENS)
            self._is_warm = True
        kinds = {"prefill": self._prefill, "decode": self._decode, "memory": self._memory}
        return kinds[task.kind](task)

    def _prefill(self, task: Task) -> Figures:
        seconds = [self._read(task, task.tokens) for _ in range(task.reps)]
        return {"tok_s": task.tokens / statistics.median(seconds)}

    def _decode(self, task: Task) -> Figures:
        """Time answers after the one prompt, to which the cache is rewound."""
        speeds = []
        prompt = task.prompt(0, task.tokens)
        for _ in range(task.reps):
            if self._held_tokens != task.tokens:
                self._new_generator()
                self._generator.append_tokens(prompt)
                self._held_tokens = task.tokens
            else:
                self._generator.rewind_to(task.tokens - 1)
                self._generator.append_tokens(prompt[-1:])
            self._generator.generate_next_token()  # no step: it picks from the prompt's logits
            began_s = time.perf_counter()
            for _ in range(task.new_tokens):
                self._generator.generate_next_token()
            speeds.append(task.new_tokens / (time.perf_counter() - began_s))
        return {"tok_s": statistics.median(speeds)}

    def _memory(self, task: Task) -> Figures:
        self._read(task, task.tokens)
        loaded = {f"loaded_{name}": value for name, value in self._loaded.items()}
        return loaded | {f"read_{name}": value for name, value in memory_mb().items()}

    def _read(self, task: Task, count: int) -> float:
        """Return the seconds that a new prompt takes up to its first token."""
        self._seeds += 1
        prompt = task.prompt(self._seeds, count)
        self._new_generator()
        began_s = time.perf_counter()
        self._generator.append_tokens(prompt)
        self._generator.generate_next_token()
        return time.perf_counter() - began_s

    def _new_generator(self) -> None:
        self._held_tokens = 0
        self._generator = None  # its cache is given back before there is another
        self._generator = self._og.Generator(self._model, self._params)


@contextmanager
def make(options: dict[str, Any]) -> Iterator[GenAi]:
    """Load the model; the end of the process gives it back."""
    yield GenAi(options)


if __name__ == "__main__":
    serve(make)
